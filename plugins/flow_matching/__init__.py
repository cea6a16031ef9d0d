"""Flow matching: the instantaneous velocity, and methods built directly on it."""

from plugins.flow_matching.cafm import CAFM as CAFM
from plugins.flow_matching.fm import FM as FM
from plugins.flow_matching.gft import GFT as GFT
from plugins.flow_matching.reflow import Reflow as Reflow
