"""Flow maps in JAX: train them, sample with them, steer them, write your own.

    import portolan as po

    run = po.train("imf", data="digits", steps=2000)
    run.sample(64, label=3, steps=1, seed=0)
    run.evaluate(nfe=(1, 2, 4))
    run.tilt("brightness", method="smc", strength=2.0)
    run.save("runs/mine")

`po.open("runs/mine")` opens a run, or the folder of a converted network; `po.load("digits")` opens
a small run of the package, and `po.Map(flow_map, shape)` makes the same of a flow map of your own.
This package only re-exports and adds these verbs; names are imported at their first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from core.data import DATA as DATA
    from core.errors import UserError as UserError
    from core.flow import PATHS as PATHS
    from core.flow import Condition as Condition
    from core.flow import FlowMap as FlowMap
    from core.flow import rules as rules
    from core.methods import Card as Card
    from core.methods import Method as Method
    from core.methods import Plugin as Plugin
    from core.methods import RowPlugin as RowPlugin
    from core.methods import Task as Task
    from core.methods import plugins as plugins
    from core.methods import presets as presets
    from core.methods import register as register
    from core.nets import NETS as NETS
    from core.objectives import Batch as Batch
    from core.objectives import FlowMatching as FlowMatching
    from core.objectives import GroupTerm as GroupTerm
    from core.objectives import Objective as Objective
    from core.objectives import Row as Row
    from core.objectives import RowKind as RowKind
    from core.objectives import Term as Term
    from core.sampling import GRIDS as GRIDS
    from core.sampling import SAMPLERS as SAMPLERS
    from core.sampling import Sampler as Sampler
    from core.steering import Reward as Reward
    from core.steering import Steering as Steering
    from core.steering import register_reward as register_reward
    from core.steering import register_steering as register_steering
    from core.steering import rewards as rewards
    from core.steering import steerings as steerings
    from portolan.maps import Map as Map
    from portolan.model import Abilities as Abilities
    from portolan.model import Model as Model
    from portolan.pictures import Picture as Picture
    from portolan.pretrained import Pretrained as Pretrained
    from portolan.results import Table as Table
    from portolan.runs import Run as Run
    from portolan.runs import load as load
    from portolan.runs import open as open
    from portolan.runs import train as train
    from portolan.tilted import Tilted as Tilted

_WHERE = {
    "core.data": ("DATA",),
    "core.errors": ("UserError",),
    "core.flow": ("PATHS", "Condition", "FlowMap", "rules"),
    "core.methods": (
        "Card", "Method", "Plugin", "RowPlugin", "Task", "plugins", "presets", "register",
    ),
    "core.nets": ("NETS",),
    "core.objectives": (
        "Batch", "FlowMatching", "GroupTerm", "Objective", "Row", "RowKind", "Term",
    ),
    "core.sampling": ("GRIDS", "SAMPLERS", "Sampler"),
    "core.steering": (
        "Reward", "Steering", "register_reward", "register_steering", "rewards", "steerings",
    ),
    "portolan.maps": ("Map",),
    "portolan.model": ("Abilities", "Model"),
    "portolan.pictures": ("Picture",),
    "portolan.pretrained": ("Pretrained",),
    "portolan.results": ("Table",),
    "portolan.runs": ("Run", "load", "open", "train"),
    "portolan.tilted": ("Tilted",),
}  # fmt: skip
_MODULE = {name: module for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*sorted(_MODULE), "__version__"]
