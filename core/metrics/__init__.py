"""Distances between samples and data: numpy and scipy, float64, the same numbers for a seed."""

from core.metrics.density import histogram_kl as histogram_kl
from core.metrics.evaluate import evaluate as evaluate
from core.metrics.evaluate import reference_floor as reference_floor
from core.metrics.features import FEATURES as FEATURES
from core.metrics.features import FeatureExtractor as FeatureExtractor
from core.metrics.features import FeatureOrigin as FeatureOrigin
from core.metrics.features import Pixels as Pixels
from core.metrics.features import extract as extract
from core.metrics.features import get_features as get_features
from core.metrics.features import register_features as register_features
from core.metrics.frechet import Statistics as Statistics
from core.metrics.frechet import frechet as frechet
from core.metrics.frechet import frechet_distance as frechet_distance
from core.metrics.frechet import statistics as statistics
from core.metrics.kernel import KernelDistance as KernelDistance
from core.metrics.kernel import energy_distance as energy_distance
from core.metrics.kernel import kid as kid
from core.metrics.kernel import polynomial_mmd as polynomial_mmd
from core.metrics.nearest import nearest_accuracy as nearest_accuracy
from core.metrics.nearest import nearest_labels as nearest_labels
from core.metrics.paired import paired_error as paired_error
from core.metrics.precision_recall import PrecisionRecall as PrecisionRecall
from core.metrics.precision_recall import precision_recall as precision_recall
from core.metrics.wasserstein import exact_w2 as exact_w2
from core.metrics.wasserstein import sliced_w2 as sliced_w2
from core.metrics.wasserstein import subset_w2 as subset_w2
