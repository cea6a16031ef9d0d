"""Maps of tokens: the endpoint is a softmax, the losses are cross-entropies."""

from plugins.categorical.cat_mf import CatMF as CatMF
from plugins.categorical.cfm_csd import CfmCSD as CfmCSD
from plugins.categorical.cfm_ecld import CfmECLD as CfmECLD
from plugins.categorical.dfm_esd import DfmESD as DfmESD
from plugins.categorical.dfm_lsd import DfmLSD as DfmLSD
from plugins.categorical.dfm_psd import DfmPSD as DfmPSD
from plugins.categorical.fmlm import FMLM as FMLM
