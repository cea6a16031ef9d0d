"""Runs on a page of the browser: `python -m apps.studio --run runs/imf-digits`."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps._main import launch
from core.errors import require
from core.train.cli import parse_flags
from portolan.runs import SHIPPED
from portolan.tables import console

NEEDED = ("starlette", "uvicorn")


@dataclass(frozen=True)
class StudioConfig:
    """Serves a page on which runs are played with: samples that follow their noise, the map between
    any two times, steering, training as it goes on, edits, the certificate.

    The page is for the browser of this machine: the server listens on 127.0.0.1 alone, answers no
    other page, and fetches nothing. Ctrl-C ends it.
    """

    run: tuple[str, ...] = ()
    """Run folders, or model folders of apps.convert: --run DIR, once for each or several behind
    one; default: runs/imf-digits, or without it the sampler of digits that comes with the
    package."""
    port: int | None = None
    """Port of the page; 0 for any free one; default: 8421, or a free one where that is taken."""
    open: bool = False
    """Open the page in the browser too."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Serves until it is stopped."""
    config = parse_flags(StudioConfig, gathered(argv))
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    require(
        not missing,
        f'the studio needs {" and ".join(missing)}: pip install "portolan[studio]"',
    )
    from portolan.studio.server import HERE, listening, serve
    from portolan.studio.session import session_of

    session = session_of(config.run or usual())
    sock = listening(config.port)
    place = f"http://{HERE}:{sock.getsockname()[1]}/"
    console.print(f"{place} shows {', '.join(run.name for run in session.runs)}; Ctrl-C ends it")
    if config.open:
        import webbrowser

        webbrowser.open(place)
    serve(session, sock)


def usual() -> tuple[str]:
    """The run of `make train` where there is one, else that of the package."""
    made = Path("runs/imf-digits")
    return (str(made if (made / "config.toml").exists() else SHIPPED / "digits"),)


def gathered(argv: list[str]) -> list[str]:
    """The same flags with all that stands behind each `--run` behind one."""
    runs, rest, after = [], [], False
    for word in argv:
        flag, equals, value = word.partition("=")
        if flag == "--run":
            after = not equals
            runs += [value] if equals else []
        elif after and not word.startswith("--"):
            runs.append(word)
        else:
            after = False
            rest.append(word)
    return [*rest, "--run", *runs] if runs or "--run" in argv else rest


if __name__ == "__main__":
    launch(main)
