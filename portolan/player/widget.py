"""`run.play()`: the panel Sample of the studio in a notebook. Python draws, the page shows."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from core.errors import UserError, explained
from portolan.player.bundle import PANEL, bundle, text
from portolan.studio.fields import Fields
from portolan.studio.jobs import JOBS
from portolan.studio.session import Opened
from portolan.studio.wire import packed

if TYPE_CHECKING:
    from portolan.stored import Stored

WIDGET = [*PANEL, ("player", "notebook")]
ASKED = ("about", "sample", "walk")
"""The jobs of the panel."""
log = logging.getLogger("portolan.player")
_OWN = """
& { background: var(--page); color: var(--ink); padding: 1rem; }
& { font: 15px/1.45 system-ui, sans-serif; }
"""


def play(run: "Stored") -> Any:
    """The widget of a run. Raises `UserError` where anywidget is not installed."""
    try:
        import anywidget
    except ModuleNotFoundError:
        raise UserError(
            'run.play() needs anywidget: pip install "portolan[notebook]"; in the browser '
            "apps.studio has the same panel"
        ) from None

    class Play(anywidget.AnyWidget):
        """The panel."""

        _esm = script()
        _css = style()

    widget, answer = Play(), answers(run)

    def heard(_: Any, content: Mapping[str, Any], __: Any) -> None:
        said, buffers = answer(content)
        widget.send(said, buffers)

    widget.on_msg(heard)
    return widget


def answers(run: "Stored") -> Callable[[Mapping[str, Any]], tuple[dict[str, Any], list[bytes]]]:
    """The answer to a message `{number, job, body}` of the panel: what is said, and one buffer as
    `portolan.studio.wire` packs it; an error in one line in its place."""
    opened = Opened(0, run.folder.resolve().name, run.folder)
    opened.__dict__["model"] = run

    def answer(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        number = content.get("number")
        try:
            job = Fields(content).word("job", ASKED)
            shown = JOBS[job](opened, Fields(content).inside("body"))
        except Exception as error:
            known = explained(error)
            if known is None:
                log.exception("a fault in the job %s", content.get("job"))
            said = str(known or "a fault of the program; the log of the kernel says where")
            return {"number": number, "error": said}, []
        return {"number": number}, [packed(shown.said, shown.arrays)]

    return answer


def script() -> str:
    """The module of the panel, as anywidget loads it."""
    return bundle(WIDGET) + "\nexport default { render: module_notebook.render };\n"


def style() -> str:
    """The studio's style sheet for the panel alone: its rules nested in the panel's class."""
    rules = text("studio", "style.css").replace(":root", "&")
    return f".portolan-play {{\n{rules}{_OWN}}}\n"
