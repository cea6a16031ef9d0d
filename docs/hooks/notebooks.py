"""Shows the notebooks of `examples/` as pages of the site, as they were run; nothing runs here."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

EXAMPLES = Path(__file__).parents[2] / "examples"


def on_files(files: Files, *, config: Any) -> Files:
    """Adds a page for each notebook, and the pictures that its cells drew."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        resources = {"output_files_dir": f"{path.stem}_files"}
        text, found = MarkdownExporter().from_filename(str(path), resources)
        text = text.replace(".ipynb)", ".md)")  # links from one notebook to another
        files.append(File.generated(config, f"examples/{path.stem}.md", content=text))
        for name, content in found["outputs"].items():
            files.append(File.generated(config, f"examples/{name}", content=content))
    return files
