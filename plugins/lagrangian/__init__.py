"""The Lagrangian rule: the end of a jump moves with the velocity there."""

from plugins.lagrangian.ayf_lmd import AYFLMD as AYFLMD
from plugins.lagrangian.boot import BOOT as BOOT
from plugins.lagrangian.f2d2 import F2D2 as F2D2
from plugins.lagrangian.freeflow import FreeFlow as FreeFlow
from plugins.lagrangian.lmd import LMD as LMD
from plugins.lagrangian.lsd import LSD as LSD
from plugins.lagrangian.pi_flow import PiFlow as PiFlow
from plugins.lagrangian.pid import PID as PID
from plugins.lagrangian.tvm import TVM as TVM
