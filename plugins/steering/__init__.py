"""Steering by a reward: from scored samples to sequential Monte Carlo."""

from plugins.steering.bon import SNIS as SNIS
from plugins.steering.bon import BestOfN as BestOfN
from plugins.steering.fk import FK as FK
from plugins.steering.fmtt import FMTT as FMTT
from plugins.steering.fmtt import FMTTSearch as FMTTSearch
from plugins.steering.guide import GradientGuide as GradientGuide
from plugins.steering.hmc import HMC as HMC
from plugins.steering.noise import PCN as PCN
from plugins.steering.noise import Slice as Slice
from plugins.steering.reno import ReNO as ReNO
from plugins.steering.smc import SMC as SMC
from plugins.steering.tds import TDS as TDS
from plugins.steering.vfm import VFMSNIS as VFMSNIS
from plugins.steering.vfm import VFMDraws as VFMDraws
from plugins.steering.waltz import Waltz as Waltz
