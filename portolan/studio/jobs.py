"""The jobs by name: what a page can ask."""

from collections.abc import Callable
from typing import Any

from portolan.studio import carrying, editing, following, inspecting, sampling, steering
from portolan.studio.about import describe
from portolan.studio.fields import Fields
from portolan.studio.session import Opened, Session
from portolan.studio.views import Shown

JOBS: dict[str, Callable[[Opened, Fields], Shown]] = {
    "about": lambda run, fields: describe(run),
    "sample": sampling.sample,
    "walk": sampling.walk,
    "plane": carrying.plane,
    "exact": carrying.exact,
    "trajectory": carrying.trajectory,
    "table": carrying.table,
    "steerable": steering.steerable,
    "tilt": steering.tilt,
    "complete": steering.complete,
    "example": steering.example,
    "edit": editing.edit,
    "measure": inspecting.measure,
    "reload": following.reload,
}
"""Those of one run that compute: they stand in the row of the worker."""


LIKELY: dict[str, Callable[[Opened, Fields], list[Callable[[], Any]]]] = {
    "sample": sampling.likely,
}
"""After a job: what is likely to come, to be compiled while nothing else is asked."""


def listed(session: Session, fields: Fields) -> Shown:
    """The runs."""
    del fields
    return Shown(said={"runs": [{"run": run.number, "name": run.name} for run in session.runs]})


AT_ONCE: dict[str, Callable[[Session, Fields], Shown]] = {
    "runs": listed,
    "follow": following.follow,
    "picture": following.picture,
    "certificate": inspecting.certificate,
}
"""Those that only read: they are answered at once."""
