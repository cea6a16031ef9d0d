"""Distributional fine-tuning: a one-step generator, judged by the law of its samples alone."""

from plugins.distribution.adversarial import Adversarial as Adversarial
from plugins.distribution.dmd import DMD as DMD
from plugins.distribution.fdloss import FDLoss as FDLoss
