"""The flags of `apps.tilt`."""

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from apps._data import NoData


@dataclass(frozen=True)
class TiltConfig:
    """Draws from `p(x) exp(lambda r(x)) / Z`, where p is the distribution of a run's samples.

    Methods: smc (start here: exact weights from few particles), fk, tds and fmtt (other potentials,
    steps and weights), snis (scored samples), pcn, slice, hmc and waltz (Markov chains); searches
    without weights: bon (best of N), guide, reno, fmtt-search. --methods lists all with their
    settings, --rewards the rewards. Writes samples with their weights (npz), a picture and the
    table under <run>/tilt.
    """

    run: str = "runs/imf-digits"
    """Run folder, or model folder of apps.convert."""
    data: Annotated[str | None, tyro.conf.arg(name="data", metavar="NAME")] = None
    """Data set for rewards that need one, in the place of the run's own."""
    vae: str | None = None
    """Model folder of the autoencoder whose latents a converted network makes."""
    plugin: tuple[str, ...] = ("smc",)
    """Methods of steering, side by side. A name, or a name with settings of its own, as in
    "smc:kernel=em,steps=50"; --methods lists both."""
    reward: tuple[str, ...] = ("brightness",)
    """Rewards, which are added up: NAME or NAME:ARGUMENT, as --rewards lists them."""
    target: str | None = None
    """Weigh samples for an unnormalised density exp(-E) instead: double-well, mueller,
    eight-gaussians, or python:MODULE:FUNCTION, the energy of one example in the units of the data.
    Prints log Z, the effective share, and the share of folds; --steps jumps, default 4."""
    classifier: str | None = None
    """Run of apps.features --task classifier, for the reward class:K."""
    judge: str | None = None
    """Run of a second classifier, trained by itself, that says which classes the samples are of."""
    weights: tuple[float, ...] = ()
    """A factor for each reward; default 1."""
    strength: float = 2.0
    """How strongly to tilt, in standard deviations of the reward: lambda = strength / sd(r)."""
    lam: float | None = None
    """lambda itself, in place of --strength; 1 for log-likelihoods such as mask."""
    n: int = 64
    """Particles of an island."""
    islands: int = 8
    """Independent islands, whose spread is the error."""
    budget: int = 0
    """Network evaluations of each method, in place of --islands; one backward counts as two."""
    steps: int | None = None
    """Steps from noise to data, for those methods that have them and name none."""
    look: str | None = None
    """Look-ahead of smc and fk: map, tweedie, naive or posterior."""
    twist: bool | None = None
    """smc: shift particles by the reward's gradient; default: where it has one."""
    moves: int | None = None
    """pcn, slice: moves of each chain; default 128 and 64."""
    chunk: int | None = None
    """Particles that go through the network at once, where memory is short; default all of them."""
    label: str | None = None
    """Class to draw from, by its name or its number; default: all together. Where the run has
    learned each class but not all of them at once, islands take the classes in turn."""
    seed: int = 0
    """Seed."""
    show: int = 20
    """Samples in the picture, of each method."""
    out: str | None = None
    """Output folder; default <run>/tilt."""
    rewards: bool = False
    """List all rewards, and do nothing else."""
    methods: bool = False
    """Print the table of all methods with their settings instead."""
    self_test: bool = False
    """Check every method against closed-form answers instead; exit status 1 if one fails."""
    adapter: tuple[str, ...] = ()
    """Adapters that are added to the weights, FILE or FILE:WEIGHT, as in apps.sample."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""
    data_flags: Annotated[Any, tyro.conf.arg(name="data")] = NoData()
    """Flags of the data set."""
