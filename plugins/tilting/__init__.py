"""Distributions tilted by a reward in training, or conditioned on an observation."""

from plugins.tilting.mfm import MFM as MFM
from plugins.tilting.rwfm import RWFM as RWFM
from plugins.tilting.rwmf import RWMF as RWMF
from plugins.tilting.vfm import VFM as VFM
