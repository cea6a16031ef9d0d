"""Files of named arrays that other programs wrote, read without running anything in them."""

from core.tensors.choose import CHOICES as CHOICES
from core.tensors.machine import Inert as Inert
from core.tensors.machine import Record as Record
from core.tensors.machine import Table as Table
from core.tensors.opening import Tensors as Tensors
from core.tensors.opening import open_tensors as open_tensors
from core.tensors.opening import open_tree as open_tree
from core.tensors.opening import sha256 as sha256
from core.tensors.torch_pickle import torch_table as torch_table
from core.tensors.view import LazyTensor as LazyTensor
