"""Consistency models and consistency trajectory models."""

from plugins.consistency.cd import CD as CD
from plugins.consistency.cmt import CMT as CMT
from plugins.consistency.ct import CT as CT
from plugins.consistency.ect import ECT as ECT
from plugins.consistency.gcm import GCMConstant as GCMConstant
from plugins.consistency.gcm import GCMVariable as GCMVariable
from plugins.consistency.ict import ICT as ICT
from plugins.consistency.imm import IMM as IMM
from plugins.consistency.kd import KD as KD
from plugins.consistency.rcm import RCM as RCM
from plugins.consistency.scm import SCD as SCD
from plugins.consistency.scm import SCT as SCT
from plugins.consistency.tangent import CCD as CCD
from plugins.consistency.tangent import CCT as CCT
from plugins.consistency.trajectory.ctm import CTM as CTM
from plugins.consistency.trajectory.ctm_scratch import CTMScratch as CTMScratch
