"""Reports on a map: pictures, methods side by side; the table is in `core.report.evaluation`."""

from core.report.gallery import draw_blocks as draw_blocks
from core.report.gallery import draw_points as draw_points
from core.report.gallery import grid_labels as grid_labels
from core.report.gallery import sample_picture as sample_picture
from core.report.versions import caption as caption
from core.report.versions import versions as versions
