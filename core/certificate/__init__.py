"""Where a trained map is wrong: residuals over `(s, t)`, the best times, bounds of its distance."""

from core.certificate.best_times import best_times as best_times
from core.certificate.distance import gronwall as gronwall
from core.certificate.distance import stretch as stretch
from core.certificate.memory import Examples as Examples
from core.certificate.memory import memory as memory
from core.certificate.memory import set_denoiser as set_denoiser
from core.certificate.residuals import KINDS as KINDS
from core.certificate.residuals import Tables as Tables
from core.certificate.residuals import measure as measure
