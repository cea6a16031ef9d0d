"""Problems with closed-form velocities, and their exact flow maps."""

from core.oracle.boxes import BoxMixture as BoxMixture
from core.oracle.boxes import checkerboard as checkerboard
from core.oracle.classes import ClassMixture as ClassMixture
from core.oracle.classes import GuidedOracle as GuidedOracle
from core.oracle.energies import ENERGIES as ENERGIES
from core.oracle.energies import DoubleWell as DoubleWell
from core.oracle.energies import Energy as Energy
from core.oracle.energies import Mueller as Mueller
from core.oracle.gaussian import GaussianProblem as GaussianProblem
from core.oracle.gaussian import SinglePoint as SinglePoint
from core.oracle.map import OracleMap as OracleMap
from core.oracle.markov import MarkovText as MarkovText
from core.oracle.markov_map import MarkovMap as MarkovMap
from core.oracle.mixture import GaussianMixture as GaussianMixture
from core.oracle.mixture import eight_gaussians as eight_gaussians
from core.oracle.mixture import finite_data as finite_data
from core.oracle.on_space import SpaceMixture as SpaceMixture
from core.oracle.on_space import SpaceProblem as SpaceProblem
from core.oracle.problem import ClosedProblem as ClosedProblem
from core.oracle.problem import Problem as Problem
from core.oracle.product import ProductMixture as ProductMixture
from core.oracle.product import mixture_1d as mixture_1d
from core.oracle.space_map import SpaceMap as SpaceMap
from core.oracle.wrapped import WrappedNormal as WrappedNormal
from core.oracle.zonal import Fisher as Fisher
from core.oracle.zonal import RotationGaussian as RotationGaussian
