"""Trained networks of other people, by name and by file, as perceptions."""

from core.nets.perceptions.named import NETWORKS as NETWORKS
from core.nets.perceptions.named import Known as Known
from core.nets.perceptions.named import is_network as is_network
from core.nets.perceptions.named import open_network as open_network
from core.nets.perceptions.pretrained import Pretrained as Pretrained
