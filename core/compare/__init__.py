"""Methods side by side: equal budgets, what each cell left, and the table of their figures."""

from core.compare.aggregate import Spread as Spread
from core.compare.aggregate import Summary as Summary
from core.compare.aggregate import metrics_of as metrics_of
from core.compare.aggregate import summarise as summarise
from core.compare.budget import has_loop as has_loop
from core.compare.budget import steps_for as steps_for
from core.compare.cell import Cell as Cell
from core.compare.cell import cells_in as cells_in
from core.compare.report import as_json as as_json
from core.compare.report import markdown as markdown
