"""Steering by a reward: from scored samples to sequential Monte Carlo."""

from plugins.steering.bon import SNIS as SNIS
from plugins.steering.bon import BestOfN as BestOfN
from plugins.steering.fk import FK as FK
from plugins.steering.noise import PCN as PCN
from plugins.steering.noise import Slice as Slice
from plugins.steering.smc import SMC as SMC
from plugins.steering.tds import TDS as TDS
