"""From a configuration to the objects of a run: data, network, method and path."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from core.data.dataset import Dataset
from core.errors import UserError
from core.flow_map import FlowMap
from core.objective import Players
from core.path import PATHS, Path
from core.plugin import Method, Task
from core.teacher import MapTeacher, Teacher
from core.train.config import TrainConfig
from core.train.state import Target


@dataclass(frozen=True)
class Built:
    """A data set, the path, and the method with freshly initialised networks.

    `training` is what the method trains on: the data set, or the pairs that its teacher made.
    """

    dataset: Dataset
    training: Dataset
    path: Path
    task: Task
    method: Method

    @property
    def players(self) -> Players:
        """All trained networks by name; the flow map is "model"."""
        return {"model": self.method.flow_map, **self.method.players}

    @property
    def target(self) -> Target:
        """Which parameters the method's targets use."""
        return Target(self.method.target_decay, self.method.target_every)

    def num_parameters(self) -> int:
        """Trained numbers in all players."""
        arrays = eqx.filter(self.players, eqx.is_inexact_array)
        return sum(leaf.size for leaf in jax.tree.leaves(arrays))


def build(
    config: TrainConfig, teacher: Teacher | None = None, data: Any = None, *, train: bool = True
) -> Built:
    """Loads the data (or takes `data`) and builds the method of a configuration.

    Without `train` no pairs are made by a teacher, since nothing will be trained. The seed fixes
    the initialisation. Raises `UserError` for what does not fit together.
    """
    dataset = config.data_flags.load() if data is None else data
    task = Task(dataset.shape, dataset.kind, dataset.num_classes, config.steps)
    key_net, key_method = jr.split(jr.fold_in(jr.key(config.seed), 0))
    net = config.net_flags.build(dataset.shape, dataset.num_classes, key=key_net)
    path = PATHS[config.path]()
    method = config.plugin_flags.method(net, path, teacher, task, key=key_method)
    if train and config.plugin_flags.starts_from(teacher):
        method = dataclasses.replace(
            method, flow_map=taught(method.flow_map, teacher, config.plugin_flags.from_teacher)
        )
    training = dataset
    if train:
        key_pairs = jr.fold_in(jr.key(config.seed), 2)
        training = config.plugin_flags.dataset(dataset, teacher, key=key_pairs)
    return Built(dataset, training, path, task, method)


def taught(student: FlowMap, teacher: Teacher | None, must: bool) -> FlowMap:
    """The student with the weights of its teacher, where that is a plain run of the same network.

    Otherwise the student as it is, or where it `must` start there, a `UserError`.
    """
    source = teacher.flow_map if isinstance(teacher, MapTeacher) else None
    if source is not None and _shapes(source) == _shapes(student):
        return jax.tree.map(lambda leaf: jnp.copy(leaf) if eqx.is_array(leaf) else leaf, source)
    if must:
        raise UserError(
            "this method goes on from its teacher's weights and needs an unguided run of the same "
            "network for a teacher: train one with the same --net flags"
        )
    return student


def _shapes(flow_map: FlowMap) -> Any:
    arrays = eqx.filter(flow_map, eqx.is_array)
    return jax.tree.structure(arrays), [leaf.shape for leaf in jax.tree.leaves(arrays)]
