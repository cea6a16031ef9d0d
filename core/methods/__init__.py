"""Methods of training: their interface, the registry, their common base, the cost of a step."""

from core.methods.card import Card as Card
from core.methods.cost import Bench as Bench
from core.methods.cost import Cost as Cost
from core.methods.cost import Program as Program
from core.methods.cost import compiled as compiled
from core.methods.cost import flops as flops
from core.methods.cost import one_forward as one_forward
from core.methods.cost import temporary as temporary
from core.methods.plugin import DataContext as DataContext
from core.methods.plugin import Method as Method
from core.methods.plugin import Plugin as Plugin
from core.methods.plugin import Progress as Progress
from core.methods.plugin import Task as Task
from core.methods.presets import by_kind as by_kind
from core.methods.recipes import Recipe as Recipe
from core.methods.reflow import PairsPlugin as PairsPlugin
from core.methods.reflow import nearest_pairs as nearest_pairs
from core.methods.reflow import teacher_pairs as teacher_pairs
from core.methods.registry import find_plugin as find_plugin
from core.methods.registry import plugins as plugins
from core.methods.registry import register as register
from core.methods.row_plugin import RowPlugin as RowPlugin
from core.methods.row_plugin import needed as needed
from core.methods.warm_start import warm_started as warm_started
