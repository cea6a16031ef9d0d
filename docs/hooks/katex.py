"""Serves KaTeX from the site itself: a page fetches nothing from elsewhere.

`make docs` installs the npm package `katex` beside the packages of the documentation; its program,
style sheet and fonts become files of the site. `docs/javascripts/katex.js` has them set what
`pymdownx.arithmatex` marked: `$...$` in a line, `$$...$$` on lines of its own.
"""

import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

DIST = Path(sys.prefix) / "katex" / "node_modules" / "katex" / "dist"


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the files of KaTeX that a browser reads."""
    if not DIST.is_dir():
        raise PluginError(f"no KaTeX in {DIST}; build the site with `make docs`, which installs it")
    wanted = [
        "katex.min.js",
        "katex.min.css",
        *(f"fonts/{p.name}" for p in DIST.glob("fonts/*.woff2")),
    ]
    for name in wanted:
        files.append(File.generated(config, f"katex/{name}", abs_src_path=str(DIST / name)))
    return files
