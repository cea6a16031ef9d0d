"""The Eulerian rule: the end of a jump stays where it is while its start moves along the flow."""

from plugins.eulerian.ayf_emd import AYFEMD as AYFEMD
from plugins.eulerian.ayf_emd import AYFScratch as AYFScratch
from plugins.eulerian.emd import EMD as EMD
from plugins.eulerian.esd import ESD as ESD
from plugins.eulerian.facm import FACM as FACM
from plugins.eulerian.soflow import SoFlow as SoFlow
