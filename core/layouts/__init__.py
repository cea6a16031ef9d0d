"""Foreign checkpoints: by which names and in which layouts other programs keep their networks."""

from core.layouts.table import Entry as Entry
from core.layouts.table import Table as Table
from core.layouts.table import filled as filled
from core.layouts.table import left_out as left_out
from core.layouts.table import names as names
from core.layouts.table import take as take
from core.layouts.table import unfilled as unfilled
from core.layouts.transforms import Transform as Transform
