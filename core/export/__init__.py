"""Samplers as files that run without this project."""

from core.export.folder import largest_difference as largest_difference
from core.export.folder import read as read
from core.export.folder import write as write
from core.export.function import SamplerFunction as SamplerFunction
from core.export.program import PLATFORMS as PLATFORMS
from core.export.program import check_exportable as check_exportable
from core.export.program import check_platforms as check_platforms
from core.export.program import make_program as make_program
