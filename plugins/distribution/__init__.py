"""Distributional fine-tuning of a one-step generator, by the distribution of its samples alone."""

from plugins.distribution.adversarial import Adversarial as Adversarial
from plugins.distribution.dmd import DMD as DMD
from plugins.distribution.fdloss import FDLoss as FDLoss
from plugins.distribution.moment import Moment as Moment
from plugins.distribution.self_e import SelfE as SelfE
from plugins.distribution.sid import SID as SID
