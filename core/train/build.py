"""From a configuration to the objects of a run: data, network, method and path."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from core.data.dataset import Dataset
from core.objective import Players
from core.path import PATHS, Path
from core.plugin import Method, Task, find_plugin
from core.teacher import Teacher
from core.train.config import TrainConfig


@dataclass(frozen=True)
class Built:
    """A data set, the path, and the method with freshly initialised networks."""

    dataset: Dataset
    path: Path
    task: Task
    method: Method

    @property
    def players(self) -> Players:
        """All trained networks by name; the flow map is "model"."""
        return {"model": self.method.flow_map, **self.method.players}

    def num_parameters(self) -> int:
        """Trained numbers in all players."""
        arrays = eqx.filter(self.players, eqx.is_inexact_array)
        return sum(leaf.size for leaf in jax.tree.leaves(arrays))


def build(config: TrainConfig, teacher: Teacher | None = None, data: Any = None) -> Built:
    """Loads the data (or takes `data`) and builds the method of a configuration.

    The seed fixes the initialisation. Raises `UserError` for what does not fit together.
    """
    dataset = config.data_flags.load() if data is None else data
    task = Task(dataset.shape, dataset.kind, dataset.num_classes)
    key_net, key_method = jr.split(jr.fold_in(jr.key(config.seed), 0))
    find_plugin(config.plugin)
    net = config.net_flags.build(dataset.shape, dataset.num_classes, key=key_net)
    path = PATHS[config.path]()
    method = config.plugin_flags.method(net, path, teacher, task, key=key_method)
    return Built(dataset, path, task, method)
