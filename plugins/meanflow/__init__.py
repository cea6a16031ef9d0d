"""MeanFlow and its descendants: the Eulerian rule with the sampled pair's velocity."""

from plugins.meanflow.alphaflow import AlphaFlow as AlphaFlow
from plugins.meanflow.dmf import DMF as DMF
from plugins.meanflow.falcon import Falcon as Falcon
from plugins.meanflow.imf import IMF as IMF
from plugins.meanflow.mf import MF as MF
from plugins.meanflow.pmf import PMF as PMF
from plugins.meanflow.rmf import RMF as RMF
