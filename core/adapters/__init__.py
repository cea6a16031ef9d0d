"""Adapters: small changes of a map's layers, trained in their place, merged, read and written."""

from core.adapters.adapted import adapted as adapted
from core.adapters.adapted import adapted_shapes as adapted_shapes
from core.adapters.adapted import is_adapted as is_adapted
from core.adapters.adapted import parts as parts
from core.adapters.adapted import trained as trained
from core.adapters.factors import Adapter as Adapter
from core.adapters.factors import Factors as Factors
from core.adapters.factors import adapter_of as adapter_of
from core.adapters.factors import base_print as base_print
from core.adapters.factors import merged as merged
from core.adapters.factors import unmerged as unmerged
from core.adapters.factors import with_adapters as with_adapters
from core.adapters.low_rank import LowRank as LowRank
from core.adapters.places import DEFAULT as DEFAULT
from core.adapters.reading import read_adapter as read_adapter
from core.adapters.writing import write_adapter as write_adapter
