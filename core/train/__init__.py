"""Training: configuration, state, step, loop, checkpoints and run folders."""

from core.train.build import Built as Built
from core.train.build import build as build
from core.train.checkpoint import Checkpoints as Checkpoints
from core.train.claim import claim as claim
from core.train.cli import parse as parse
from core.train.config import MeshConfig as MeshConfig
from core.train.config import OptimConfig as OptimConfig
from core.train.config import TeachingConfig as TeachingConfig
from core.train.config import TrainConfig as TrainConfig
from core.train.recipe import recipe as recipe
from core.train.run import Run as Run
from core.train.run import open_run as open_run
from core.train.state import TrainState as TrainState
from core.train.state import init_state as init_state
from core.train.step import make_step as make_step
from core.train.step import many_steps as many_steps
from core.train.teachers import build_run as build_run
from core.train.teachers import open_start as open_start
from core.train.teachers import open_teacher as open_teacher
from core.train.trainer import Dispatch as Dispatch
from core.train.trainer import NonFinite as NonFinite
from core.train.trainer import Trainer as Trainer
