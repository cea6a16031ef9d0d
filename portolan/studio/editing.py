"""The panel Edit: examples of the data carried to noise and back, and changed in between."""

import numpy as np

from core.errors import require
from portolan.edit_sheets import EDITS, MADE, Edit, chosen
from portolan.editing import editor
from portolan.studio.bounds import MOST_STEPS, most_of
from portolan.studio.fields import SEED, Fields
from portolan.studio.session import Opened
from portolan.studio.views import Shown, shown
from portolan.tables import quiet

MOST = 12
"""Examples, and stages of each, at most."""
SHEETS: tuple[Edit, ...] = tuple(edit for edit in EDITS if edit != "attributes")
"""The edits of the page: all that need no other data than the run's."""


def edit(run: Opened, fields: Fields) -> Shown:
    """The stages of examples, one row an example: see `apps.edit`, whose edits these are.

    `n` examples from number `first` on, `steps` from end to end, and the `noise` of variations.
    Raises `UserError` where the run has no way to noise, no data, or no classes for `classes`.
    """
    model = run.model
    what: Edit = fields.word("edit", SHEETS, "round-trip")
    most = max(1, min(MOST, most_of(model) // MOST))
    n = fields.whole("n", 1, most, min(8, most))
    sampler = fields.text("sampler", 40) if fields.has("sampler") else None
    steps, seed = fields.whole("steps", 1, MOST_STEPS, 4), fields.whole("seed", 0, SEED, 0)
    noise = [0.2, 0.4, 0.6, 0.8]
    if fields.has("noise"):
        noise = fields.numbers("noise", MOST - 1, 0.01, 1)
    require(what != "classes" or model.spec.num_classes > 1, f"{model.name} knows no classes")
    editing = editor(model, sampler, steps, seed)
    given = chosen(run.dataset(), fields.whole("first", 0, SEED, 0), n)
    with quiet():
        sheet, numbers = MADE[what](editing, given, noise)
    rows, stages, *shape = sheet.x.shape
    picture = shown(run, np.asarray(sheet.x).reshape(-1, *shape))
    said = {**picture.said, **numbers, "names": list(sheet.names), "rows": rows, "stages": stages}
    return Shown(picture.arrays, said)
