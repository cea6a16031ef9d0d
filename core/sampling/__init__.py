"""From noise to data: samplers, the times at which they stop, and many samples at once."""

from core.registry import Registry as Registry
from core.sampling.drawing import Drawing as Drawing
from core.sampling.drawing import drawing_of as drawing_of
from core.sampling.generate import Samples as Samples
from core.sampling.generate import generate as generate
from core.sampling.grids import GRIDS as GRIDS
from core.sampling.grids import Grid as Grid
from core.sampling.grids import at_units as at_units
from core.sampling.grids import shifted as shifted
from core.sampling.grids import uniform_grid as uniform_grid
from core.sampling.jumps import Gamma as Gamma
from core.sampling.jumps import Pushforward as Pushforward
from core.sampling.jumps import Restart as Restart
from core.sampling.jumps import renoise as renoise
from core.sampling.ode import AdaptiveOde as AdaptiveOde
from core.sampling.ode import Ddim as Ddim
from core.sampling.ode import DpmPlusPlus as DpmPlusPlus
from core.sampling.ode import Ode as Ode
from core.sampling.sampler import Sampler as Sampler
from core.sampling.sampler import check_sampler as check_sampler
from core.sampling.sampler import usable as usable
from core.sampling.sde import EulerMaruyama as EulerMaruyama
from core.sampling.sde import HeunChurn as HeunChurn

SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    {
        "pushforward": Pushforward(),
        "restart": Restart(),
        "gamma": Gamma(),
        "euler": Ode("euler"),
        "heun": Ode("heun"),
        "ddim": Ddim(),
        "ancestral": Ddim(randomness=1.0),
        "dpmpp-2m": DpmPlusPlus(),
        "churn": HeunChurn(),
        "euler-maruyama": EulerMaruyama(),
        "adaptive": AdaptiveOde(),
    },
)
