"""What `apps.export` writes in place of a program: the weights alone, or the adapter alone."""

from pathlib import Path
from typing import Any

from core.adapters import write_adapter
from core.adapters.writing import Keys
from core.errors import UserError
from portolan.runs import Run
from portolan.stored import Stored
from portolan.tables import console


def write_packed(run: Stored, precision: str, out: str | None) -> dict[str, Any]:
    """Writes a run folder with the map's weights in this precision, an adapter merged into them.
    Raises `UserError` for what is no run."""
    if not isinstance(run, Run):
        raise UserError(f"{run.folder} holds its weights alone already; leave out --packed")
    folder = Path(out or run.folder / "packed")
    saved = run.save(folder, weights=precision)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    console.print(f"wrote {folder} ({size:,} bytes): a run with its weights alone, in {precision}")
    return {"run": str(run.folder), "step": saved.step, "out": str(folder), "bytes": size}


def write_parts(run: Stored, keys: Keys, out: str | None) -> dict[str, Any]:
    """Writes the file of a run's adapter. Raises `UserError` where it has none, and where the
    keys have no place for it."""
    adapter = run.opened.adapter if isinstance(run, Run) else None
    if adapter is None:
        raise UserError(
            f"{run.folder} has no adapter for --adapter-only; train one by "
            "apps.train --adapter.rank 8"
        )
    folder = Path(out or run.folder / "adapter")
    try:
        sizes = write_adapter(adapter, folder, keys, run.flow_map, run.spec.shape)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}); choose another --out") from None
    listed = [f"{file} {size:,} bytes" for file, size in sizes.items()]
    console.print(f"wrote {folder}: {', '.join(listed)}; {adapter.size:,} numbers, keys of {keys}")
    result = {"run": str(run.folder), "step": run.step, "out": str(folder), "bytes": sizes}
    return result | {"parameters": adapter.size, "keys": keys}
