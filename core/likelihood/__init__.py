"""Densities of flow maps: log-likelihood by the ODE and by jumps, importance weights."""

from core.flow.divergence import Divergence as Divergence
from core.flow.divergence import ExactDivergence as ExactDivergence
from core.flow.divergence import Hutchinson as Hutchinson
from core.likelihood.bits import bits_per_dimension as bits_per_dimension
from core.likelihood.bits import dequantised as dequantised
from core.likelihood.head import HeadLogDet as HeadLogDet
from core.likelihood.importance import Weighted as Weighted
from core.likelihood.importance import expectation as expectation
from core.likelihood.importance import weighted as weighted
from core.likelihood.jumps import Traced as Traced
from core.likelihood.jumps import log_prob as log_prob
from core.likelihood.jumps import round_trip as round_trip
from core.likelihood.jumps import sample_log_prob as sample_log_prob
from core.likelihood.log_det import ExactLogDet as ExactLogDet
from core.likelihood.log_det import LogDet as LogDet
from core.likelihood.log_det import SeriesLogDet as SeriesLogDet
from core.likelihood.ode import ode_log_prob as ode_log_prob
from core.likelihood.ode import prior_log_prob as prior_log_prob
from core.likelihood.space import log_volume as log_volume
from core.likelihood.space import negative_log_likelihood as negative_log_likelihood
from core.likelihood.space import space_log_prob as space_log_prob
