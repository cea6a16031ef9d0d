"""What a run takes from another model: of a run folder, or of a model folder."""

from dataclasses import dataclass, replace
from pathlib import Path

from core.data.spec import DataSpec
from core.errors import UserError
from core.files import check_links
from core.flow.flow_map import FlowMap
from core.models import is_model, open_model
from core.models.codec import scale_of
from core.train.config import NOISE
from core.train.run import OWN, open_run

INDEPENDENT = "independent"


@dataclass(frozen=True, eq=False)
class Source:
    """A trained model that teaches, or gives its weights.

    **Fields:** `title`, the method that trained it, or the layout that it was converted from;
    `path`, by name, and None where the map may be moved to another one; `ends`, the source and the
    coupling that it was trained with; `takes_guidance`, whether guidance is an input of its
    network; `without_null`, whether it was never trained without labels.
    """

    folder: Path
    flow_map: FlowMap
    spec: DataSpec
    title: str
    path: str | None
    ends: tuple[str, str] = (NOISE, INDEPENDENT)
    takes_guidance: bool = False
    without_null: bool = False


def open_source(folder: str | Path, *, dtype: str | None = None) -> Source:
    """Opens a run folder, at its newest checkpoint, or a model folder; `dtype` names another
    precision for its network to compute in. Raises `UserError` where it is neither."""
    folder = Path(folder)
    if is_model(folder):
        check_links(folder, OWN)
        model = open_model(folder, dtype=dtype)
        return Source(
            folder,
            model.flow_map,
            replace(model.spec, scale=scale_of(model.scaling, model.spec.shape[-1])),
            model.kind,
            None,
            takes_guidance=model.net_flags.takes_guidance,
            without_null=model.trained_without_null,
        )
    check_run(folder)
    run = open_run(folder, dtype=dtype)
    config = run.config
    return Source(
        folder,
        run.flow_map,
        run.spec,
        config.plugin,
        config.path,
        (config.source, config.coupling),
        config.net_flags.takes_guidance,
    )


def check_run(folder: str | Path) -> None:
    """Raises `UserError` where a folder that is no model folder holds no run either."""
    if not (Path(folder) / "config.toml").exists():
        raise UserError(
            f"{folder} is not a run folder (no config.toml) and no model folder (no model.toml); "
            "train a run with apps.train, or convert a published network with apps.convert"
        )
