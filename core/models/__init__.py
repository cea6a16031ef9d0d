"""Networks that were trained elsewhere, in folders of our own."""

from core.models.folder import check_place as check_place
from core.models.folder import is_model as is_model
from core.models.folder import open_autoencoder as open_autoencoder
from core.models.folder import open_model as open_model
from core.models.folder import write_model as write_model
from core.models.pretrained import Pretrained as Pretrained
from core.models.pretrained import PretrainedAutoencoder as PretrainedAutoencoder
