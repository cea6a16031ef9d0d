"""Shows the notebooks of `examples/` as pages of the site, as they were run; nothing runs here."""

from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

EXAMPLES = Path(__file__).parents[2] / "examples"


def on_files(files: Files, *, config: Any) -> Files:
    """Adds a page for each notebook, and the pictures that its cells drew."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        resources = {"output_files_dir": f"{path.stem}_files"}
        text, found = MarkdownExporter().from_notebook_node(_plain(path), resources)
        text = text.replace(".ipynb)", ".md)")  # links from one notebook to another
        files.append(File.generated(config, f"examples/{path.stem}.md", content=text))
        for name, content in found["outputs"].items():
            files.append(File.generated(config, f"examples/{name}", content=content))
    return files


def _plain(path: Path) -> Any:
    """The notebook, in which what was printed is text: as HTML it brings a style of its own."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).get("text/html", "").startswith("<pre"):
                del output["data"]["text/html"]
    return notebook
