"""Reports on a map: its table, its pictures, methods side by side."""

from core.report.evaluation import TableRow as TableRow
from core.report.evaluation import evaluate_map as evaluate_map
from core.report.evaluation import floor_row as floor_row
from core.report.evaluation import labels_like as labels_like
from core.report.evaluation import reference_values as reference_values
from core.report.gallery import draw_blocks as draw_blocks
from core.report.gallery import draw_points as draw_points
from core.report.gallery import grid_labels as grid_labels
from core.report.gallery import sample_picture as sample_picture
from core.report.versions import caption as caption
from core.report.versions import versions as versions
