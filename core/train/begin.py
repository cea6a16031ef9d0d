"""The network of a run that begins with a published one: its own, where no --net is given."""

from dataclasses import replace
from pathlib import Path

from core.errors import UserError
from core.flow.path import PATHS
from core.models import is_model
from core.models.record import MARKER, config_of, read_record
from core.nets import NetworkConfig
from core.nets.suited import predicts_of
from core.train.absent import AbsentTeacher
from core.train.config import TrainConfig


def with_its_network(config: TrainConfig, init: str | None, teacher: str | None) -> TrainConfig:
    """The default configuration with the network of the model folder that training starts from:
    that of --init, or the teacher's where the method starts from its teacher's weights.

    The network has a second time where it had one alone. One that was never trained without labels
    is asked for none: the method leaves all labels. Runs and other names change nothing.
    """
    if init is None and config.plugin_flags.starts_from(AbsentTeacher(PATHS[config.path]())):
        init = teacher
    if init is None or not is_model(init):
        return config
    name, flags = student_network(Path(init))
    method = config.plugin_flags
    if read_record(Path(init)).trained_without_null and hasattr(method, "label_drop"):
        method = replace(method, label_drop=0.0)
    return replace(config, net=name, net_flags=flags, plugin_flags=method)


def student_network(folder: Path) -> tuple[str, NetworkConfig]:
    """The name and flags of a network that begins as that of a model folder. Raises `UserError` for
    a folder whose network cannot be a student."""
    record = read_record(folder)
    config = config_of(record, folder / MARKER)
    if not isinstance(config, NetworkConfig):
        raise UserError(f"{folder} holds an autoencoder and no flow map: --init names a network")
    clock = getattr(config, "clock", "unit")
    return record.net["name"], config.as_student(predicts_of(record.prediction, clock))
