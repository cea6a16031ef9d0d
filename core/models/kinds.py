"""The networks that are converted: how their files are known, and how each is read.

A kind is known by keys that its files have and no others do. SiT and DiT keep the same keys: which
of them a file is of is said by the flags of its training where they lie beside, by its name, or by
whoever converts it.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from core.errors import UserError, pick
from core.layouts import (
    autoencoder_kl,
    diffusers_dit,
    diffusers_unet,
    dit,
    edm,
    edm2,
    imf,
    meanflow,
    sit,
)
from core.layouts.autoencoder_kl import FoundAutoencoder
from core.layouts.found import Found
from core.models.foreign import Foreign
from core.models.scheduler import scheduled
from core.tensors.machine import shown

NON_COMMERCIAL = "CC BY-NC-SA 4.0"
AUTO = "auto"


@dataclass(frozen=True)
class Given:
    """What a file does not tell of its network; what is assumed without them is printed."""

    heads: int | None = None
    """Number of attention heads of a transformer; default: that of the published one of its
    width."""
    side: int | None = None
    """Side of an image or latent, for transformers whose files have no table of positions;
    default: 32."""
    null_class: bool | None = None
    """Whether the last row of the label table is for no label; default: unless it has 10, 100 or
    1000 rows."""
    clock: str | None = None
    """The times that the network is given: reversed, reversed_cosine (SiT, GVP), 'linear A B N',
    'scaled_linear A B N', 'squaredcos_cap_v2 N' (steps of discrete diffusion), thousand (flow
    matching of diffusers); default: those of the published networks, or of the scheduler."""
    prediction: Literal["noise", "x_0", "velocity"] | None = None
    """What a network of discrete diffusion predicts, velocity for v-prediction; default: that of
    the scheduler beside it, or noise."""
    head_channels: int | None = None
    """Channels of an attention head of EDM's and EDM2's networks; default: those that the pickle
    tells, else 64."""
    scaling: float | None = None
    """Factor of latents before the network sees them; default: that of the configuration, or
    0.18215 for networks of latents, as the published ones have it."""
    folded: bool = False
    """Normalise the weights of EDM2 once: for a teacher that stays frozen, not for a start."""


Read = Callable[[Foreign, Given], Found[Any] | FoundAutoencoder | None]


@dataclass(frozen=True)
class Kind:
    """A layout that files may have.

    **Fields:** `says`, the word that --from takes; `title`; `marks`, patterns of keys that such a
    file has; `read`; `flags` of `Given` that it takes; the `licence` of the files that are
    published, "" where there are many; `images`, "NCHW" or "NHWC", as its own code has them;
    `latents`, how the latents are scaled that it makes, None for pictures.
    """

    name: str
    says: str
    title: str
    marks: tuple[str, ...]
    read: Read
    flags: tuple[str, ...] = ()
    licence: str = ""
    images: str = "NCHW"
    latents: Mapping[str, Any] | None = None


SD: Mapping[str, Any] = {"scaling_factor": 0.18215}
EDM2_LATENTS: Mapping[str, Any] = {
    "latents_mean": [5.81, 3.25, 0.12, -2.15], "latents_std": [4.17, 4.62, 3.71, 3.28],
    "scaling_factor": 0.5, "pixels": [0.0, 1.0],
}  # fmt: skip
"""How latents are scaled for published networks, by the names of diffusers; EDM2's come from images
in [0, 1]."""


def _sit(file: Foreign, given: Given) -> Found[Any]:
    path = file.arguments.get("path_type", "Linear")
    said = file.arguments.get("prediction", "velocity")
    if said != "velocity":
        raise UserError(
            f"{file.path.name} predicts the {said}; SiT that predicts velocity is known"
        )
    clock = {"Linear": None, "GVP": "reversed_cosine"}
    if path not in clock:
        raise UserError(f"{file.path.name} is of the path {path}; {', '.join(clock)} are known")
    by = given.clock or clock[path] or ("reversed" if "path_type" in file.arguments else None)
    how = {"heads": given.heads, "null_class": given.null_class, "clock": by}
    return sit.options_of(file.tensors, **how)


def _dit(file: Foreign, given: Given) -> Found[Any]:
    how = {"heads": given.heads, "null_class": given.null_class, "clock": given.clock}
    return dit.options_of(file.tensors, **how)


def _meanflow(file: Foreign, given: Given) -> Found[Any]:
    null = True if given.null_class is None else given.null_class
    return meanflow.options_of(file.tensors, heads=given.heads, null_class=null, side=given.side)


def _imf(file: Foreign, given: Given) -> Found[Any]:
    return imf.options_of(file.tensors, heads=given.heads, side=given.side)


def _edm(file: Foreign, given: Given) -> Found[Any]:
    return edm.options_of(file.tensors, file.options, head_channels=given.head_channels)


def _edm2(file: Foreign, given: Given) -> Found[Any]:
    return edm2.options_of(
        file.tensors,
        file.options,
        head_channels=given.head_channels,
        folded=given.folded,
    )


def _unet(file: Foreign, given: Given) -> Found[Any]:
    if file.config is None:
        raise UserError(
            f"{file.path.name} does not tell its options: put its config.json beside it, or name "
            "their folder with --file"
        )
    clock, prediction, said = scheduled(file.scheduler, given.clock, given.prediction)
    found = diffusers_unet.options_of(file.tensors, file.config, clock, prediction)
    return _saying(found, said)


def _diffusers_dit(file: Foreign, given: Given) -> Found[Any]:
    config = file.config or {}
    for option, known in (("norm_type", "ada_norm_zero"), ("activation_fn", "gelu-approximate")):
        if config.get(option, known) != known:
            raise UserError(f"DiTTransformer2DModel with {option} {config[option]!r} is not known")
    clock, prediction, said = scheduled(file.scheduler, given.clock, given.prediction)
    found = diffusers_dit.options_of(
        file.tensors,
        heads=given.heads or _whole(config, "num_attention_heads"),
        null_class=True if given.null_class is None else given.null_class,
        side=given.side or _whole(config, "sample_size"),
        norm_eps=config.get("norm_eps", diffusers_dit.NORM_EPS) if config else None,
        clock=clock,
        prediction=prediction,
    )
    return _saying(found, said)


def _autoencoder(file: Foreign, given: Given) -> FoundAutoencoder:
    del given
    return autoencoder_kl.options_of(file.tensors, file.config)


def _features(file: Foreign, given: Given) -> None:
    del file, given


def _whole(config: Mapping[str, Any], option: str) -> int | None:
    value = config.get(option)
    return value if type(value) is int and value > 0 else None


def also(assumed: str, said: str) -> str:
    """The line of what was assumed, with one thing more."""
    return (f"{assumed}, " if assumed else "not in the file, assumed: ") + said if said else assumed


def _saying(found: Found[Any], said: str) -> Found[Any]:
    """The same with one more thing that was assumed."""
    if not said:
        return found
    return dataclasses.replace(found, assumed=also(found.assumed, said))


_TORCH_DIT = ("x_embedder.proj.weight", "pos_embed", "blocks.0.adaLN_modulation.1.weight")
_OF_TRANSFORMER = ("heads", "null_class", "clock", "scaling")
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("sit", "sit", "SiT", _TORCH_DIT, _sit, _OF_TRANSFORMER, "MIT", latents=SD),
        Kind("dit", "dit", "DiT", _TORCH_DIT, _dit, _OF_TRANSFORMER, dit.LICENCE, latents=SD),
        Kind("meanflow", "meanflow", "MeanFlow DiT", ("x_embedder.proj.kernel", "t_embedder.*"),
             _meanflow, ("heads", "null_class", "side", "scaling"), "MIT", "NHWC", SD),
        Kind("imf", "imf", "iMF DiT", ("x_embedder.proj.kernel", "shared_blocks_0.*"), _imf,
             ("heads", "side", "scaling"), "MIT", "NHWC", SD),
        Kind("edm2", "edm2", "EDM2", ("*emb_fourier.freqs", "*out_gain"), _edm2,
             ("head_channels", "folded"), NON_COMMERCIAL, latents=EDM2_LATENTS),
        Kind("edm", "edm", "EDM", ("*map_layer0.weight", "*map_layer1.weight"), _edm,
             ("head_channels",), NON_COMMERCIAL),
        Kind("diffusers-dit", "diffusers", "diffusers DiTTransformer2DModel",
             ("pos_embed.proj.weight", "transformer_blocks.0.norm1.emb.*"), _diffusers_dit,
             ("heads", "null_class", "side", "clock", "prediction", "scaling"), latents=SD),
        Kind("diffusers-unet", "diffusers", "diffusers UNet2DModel",
             ("conv_in.weight", "time_embedding.linear_1.weight"), _unet,
             ("clock", "prediction", "scaling")),
        Kind("autoencoder-kl", "autoencoder-kl", "diffusers AutoencoderKL",
             ("encoder.conv_in.weight", "decoder.conv_in.weight"), _autoencoder, ("scaling",)),
        Kind("inception", "inception", "Inception-2015", ("Mixed_5b.branch1x1.conv.weight",),
             _features, licence="Apache-2.0", images="NHWC"),
        Kind("dinov2", "dinov2", "DINOv2", ("cls_token", "blocks.0.ls1.gamma"), _features,
             licence="Apache-2.0", images="NHWC"),
    )
}  # fmt: skip
WORDS = tuple(dict.fromkeys([AUTO, *(kind.says for kind in KINDS.values())]))
"""What --from takes."""
CLASSES = {
    "UNet2DModel": "diffusers-unet", "DiTTransformer2DModel": "diffusers-dit",
    "AutoencoderKL": "autoencoder-kl", "Transformer2DModel": "diffusers-dit",
}  # fmt: skip
"""diffusers' classes of which the kinds are."""


def lacking(kind: Kind, tensors: Mapping[str, Any]) -> str | None:
    """The first mark of a kind that tensors lack, or None."""
    return next((m for m in kind.marks if not any(fnmatchcase(key, m) for key in tensors)), None)


def guesses(file: Foreign) -> list[Kind]:
    """The kinds that a file may be of, by its keys; the class of its pickle or of its `config.json`
    decides where there is one."""
    found = [kind for kind in KINDS.values() if lacking(kind, file.tensors) is None]
    both = [KINDS["sit"], KINDS["dit"]]
    if found != both:
        return found[:1]
    if "path_type" in file.arguments:
        return both[:1]
    said = f"{file.arguments.get('model', '')} {file.path.name}".lower()
    named = [kind for kind in both if re.search(rf"(?<![a-z]){kind.name}(?![a-z])", said)]
    return named if len(named) == 1 else both


def kind_of(file: Foreign, word: str = AUTO) -> Kind:
    """The kind of a file, guessed or as the user says. Raises `UserError`, one line, where it is of
    none, of several, or of another than was said."""
    name = shown(file.path.name)
    pick(dict.fromkeys(WORDS, True), word, "kind of network (--from)")
    _check_class(file, name)
    found = guesses(file)
    if word == AUTO:
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{name} has the keys of SiT and of DiT, which are the same: say which it is, "
                "--from sit or --from dit"
            )
        raise UserError(f"{name} is of no network that is known; --list shows its keys")
    wanted = [kind for kind in KINDS.values() if kind.says == word]
    fits = [kind for kind in wanted if lacking(kind, file.tensors) is None]
    if fits:
        return fits[0]
    looks = f"it looks like {found[0].title}: --from {found[0].says}" if found else ""
    key = lacking(wanted[0], file.tensors)
    raise UserError(f"{name} has no key {key}; {looks or 'it is of no network that is known'}")


def _check_class(file: Foreign, name: str) -> None:
    """Raises `UserError` for a class that is not supported, before its keys are looked at."""
    said = (file.config or {}).get("_class_name")
    if said is not None and said not in CLASSES:
        raise UserError(f"{name} is of {shown(str(said))}; {', '.join(CLASSES)} are supported")
    said = (file.options or {}).get("class_name")
    if said is not None and said not in ("EDMPrecond", "Precond"):
        raise UserError(f"{shown(str(said))} is not supported; EDMPrecond is")


def check_given(kind: Kind, given: Given) -> None:
    """Raises `UserError` for what a user says that such a file tells itself, or has not."""
    for name, value in vars(given).items():
        if value != getattr(Given(), name) and name not in kind.flags:
            flags = ", ".join(f"--{one.replace('_', '-')}" for one in kind.flags) or "none of these"
            raise UserError(
                f"--{name.replace('_', '-')} says nothing of {kind.title}: leave it out; it takes "
                f"{flags}"
            )
