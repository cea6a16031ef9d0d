"""The oracle checks that every method must pass, ours or another package's."""

from core.conformance.batches import batch_checks as batch_checks
from core.conformance.batches import batch_scores as batch_scores
from core.conformance.checks import E0_BOUND as E0_BOUND
from core.conformance.checks import Check as Check
from core.conformance.checks import largest_score as largest_score
from core.conformance.gradients import G0_BOUND as G0_BOUND
from core.conformance.gradients import SCALES as SCALES
from core.conformance.gradients import declaration as declaration
from core.conformance.gradients import gradient_checks as gradient_checks
from core.conformance.probes import Bumped as Bumped
from core.conformance.probes import Flipped as Flipped
from core.conformance.probes import NoNetwork as NoNetwork
from core.conformance.probes import Probe as Probe
from core.conformance.probes import shifted as shifted
from core.conformance.problems import SPACE_PROBLEMS as SPACE_PROBLEMS
from core.conformance.problems import classes as classes
from core.conformance.problems import problems as problems
from core.conformance.problems import space_problem as space_problem
from core.conformance.rows import ORDER_BOUND as ORDER_BOUND
from core.conformance.rows import P0_BOUND as P0_BOUND
from core.conformance.rows import STEPS as STEPS
from core.conformance.rows import check_plugin as check_plugin
