"""The compositional rule: one jump equals two."""

from plugins.compositional.fmm import FMM as FMM
from plugins.compositional.pd import PD as PD
from plugins.compositional.pfmm import PFMM as PFMM
from plugins.compositional.psd import PSD as PSD
from plugins.compositional.shortcut import Shortcut as Shortcut
from plugins.compositional.splitmf import SplitMF as SplitMF
