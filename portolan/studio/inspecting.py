"""The panel Inspect: the certificate of a run, from its folder or measured now."""

import json
from typing import Any

import numpy as np

from core.errors import UserError
from portolan.certificate import FILE, WORDS, certify
from portolan.studio.fields import SEED, Fields
from portolan.studio.session import Opened, Session
from portolan.studio.views import Shown

NODES, EXAMPLES = 9, 32
"""What is measured here; `apps.inspect --certify` measures more, and writes it."""


def certificate(session: Session, fields: Fields) -> Shown:
    """The tables of a run's certificate, or none where there is no file of it."""
    run = session.run(fields.whole("run", 0, SEED))
    path = run.folder / FILE
    try:
        found = json.loads(path.read_text("utf-8"))
        return _tables(found, str(FILE))
    except FileNotFoundError:
        return Shown(said={"found": False})
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        raise UserError(f"{path} cannot be read: make it again by apps.inspect --certify") from None


def measure(run: Opened, fields: Fields) -> Shown:
    """The same, measured now on a few examples; nothing is written."""
    del fields
    if "certificate" not in run.kept:
        run.kept["certificate"] = certify(run.model, n=EXAMPLES, nodes=NODES).to_json()
    return _tables(run.kept["certificate"], "measured now")


def _tables(found: dict[str, Any], source: str) -> Shown:
    nodes = len(found["units"])
    arrays = {}
    for kind in WORDS:
        rows = [[np.nan if v is None else v for v in row] for row in found["tables"][kind]]
        arrays[kind] = np.asarray(rows, np.float32).reshape(nodes, nodes)
    said = {
        "found": True,
        "source": source,
        "examples": int(found["examples"]),
        "units": [float(unit) for unit in found["units"]],
        "kinds": list(WORDS),
        "times": {k: [float(t) for t in way] for k, way in found["times"].items()},
        "distance": float(found["distance"]),
        "bound": float(found["bound"]),
    }
    return Shown(arrays, said)
