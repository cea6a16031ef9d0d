"""Consistency models and consistency trajectory models."""

from plugins.consistency.cd import CD as CD
from plugins.consistency.ct import CT as CT
from plugins.consistency.ctm import CTM as CTM
