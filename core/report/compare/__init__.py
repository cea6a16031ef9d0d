"""Methods side by side: equal budgets, the record of each cell, and the table of their figures."""

from core.report.compare.aggregate import Spread as Spread
from core.report.compare.aggregate import Summary as Summary
from core.report.compare.aggregate import metrics_of as metrics_of
from core.report.compare.aggregate import summarise as summarise
from core.report.compare.budget import has_loop as has_loop
from core.report.compare.budget import steps_for as steps_for
from core.report.compare.cell import Cell as Cell
from core.report.compare.cell import cells_in as cells_in
from core.report.compare.report import FLOOR as FLOOR
from core.report.compare.report import as_json as as_json
from core.report.compare.report import figure as figure
from core.report.compare.report import markdown as markdown
