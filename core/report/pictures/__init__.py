"""Pictures for people: grids of images, panels of points, curves; PNG files written in one move.

Sizes are in pixels and layouts depend only on the arguments, so that pictures of successive steps
lie exactly over each other.
"""

from core.report.pictures.compare import Curve as Curve
from core.report.pictures.compare import Spot as Spot
from core.report.pictures.compare import cost_plot as cost_plot
from core.report.pictures.compare import quality_plot as quality_plot
from core.report.pictures.curves import curve_plot as curve_plot
from core.report.pictures.guidance import guidance_curves as guidance_curves
from core.report.pictures.heat import heat_maps as heat_maps
from core.report.pictures.image_grid import image_grid as image_grid
from core.report.pictures.points import density_plot as density_plot
from core.report.pictures.points import points_plot as points_plot
from core.report.pictures.spheres import globe_plot as globe_plot
from core.report.pictures.spheres import rotations_plot as rotations_plot
from core.report.pictures.steering import reward_plot as reward_plot
from core.report.pictures.torus import torus_plot as torus_plot
