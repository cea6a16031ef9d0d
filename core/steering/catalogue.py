"""The rewards that come with the project."""

import jax.numpy as jnp

from core.errors import UserError, require
from core.steering.classify import ClassProbability
from core.steering.compress import Compressibility
from core.steering.inverse import LinearInverse, blur_of, shrinking
from core.steering.own import NumpyFunction, function_reward, load_function
from core.steering.registry import RewardContext, numbers, register_reward
from core.steering.reward import (
    Brightness,
    Colour,
    Linear,
    Observation,
    Reward,
    Smoothness,
    Symmetry,
)
from core.steering.spoken import OfText, beginning

NOISE = 0.2
COLOURS = ("red", "green", "blue")


@register_reward("brightness")
def _brightness(argument: str, context: RewardContext) -> Reward:
    """Mean of the pixels, from 0 (black) to 1 (white)."""
    del argument
    context.image("brightness")
    return Brightness()


@register_reward("colour", "[NAME]")
def _colour(argument: str, context: RewardContext) -> Reward:
    """One channel less the mean of the other two: red, green or blue (the default)."""
    require(context.image("colour")[2] == 3, "the reward 'colour' is for images of three channels")
    name = argument or "blue"
    require(name in COLOURS, f"--reward colour:{name}: choose from {', '.join(COLOURS)}")
    return Colour(COLOURS.index(name))


@register_reward("linear", "[A,B,...]")
def _linear(argument: str, context: RewardContext) -> Reward:
    """A x_1 + B x_2 + ... of a point; without numbers the mean of all values."""
    size = 1
    for side in context.shape:
        size *= side
    if not argument:
        return Linear(jnp.full(context.shape, 1 / size))
    given = numbers(argument, (0.0,) * size, "linear")
    return Linear(jnp.asarray(given).reshape(context.shape))


@register_reward("smoothness")
def _smoothness(argument: str, context: RewardContext) -> Reward:
    """Minus the mean squared difference of neighbouring pixels; --weights -1 asks for edges."""
    del argument
    context.image("smoothness")
    return Smoothness()


@register_reward("symmetry", "[WIDTH]")
def _symmetry(argument: str, context: RewardContext) -> Reward:
    """-|x - mirror(x)|^2 / (2 WIDTH^2), mirrored left to right."""
    context.image("symmetry")
    (width,) = numbers(argument, (1.0,), "symmetry:WIDTH")
    require(width > 0, f"--reward symmetry: the width must be positive, got {width:g}")
    return Symmetry(width)


@register_reward("target", "[INDEX]")
def _target(argument: str, context: RewardContext) -> Reward:
    """Closeness to an example of the data: -|x - y|^2 / (2 0.3^2)."""
    (index,) = numbers(argument, (0,), "target:INDEX")
    example = context.example(index, "target")
    return Observation(example, jnp.ones_like(example))


@register_reward("class", "K")
def _class(argument: str, context: RewardContext) -> Reward:
    """Log-probability of class K under the classifier of --classifier."""
    if context.classifier is None:
        raise UserError(
            "the reward 'class' needs a classifier: --classifier (apps.train --plugin.classifier) "
            "names its run, which python -m apps.features --task classifier trains"
        )
    (index,) = numbers(argument, (0,), "class:K")
    classes = context.classifier.num_classes
    require(
        index == int(index) and 0 <= index < classes,
        f"--reward class:{argument}: classes go from 0 to {classes - 1}",
    )
    return ClassProbability(context.classifier, jnp.asarray(int(index)))


@register_reward("mask", "[INDEX,NOISE]")
def _mask(argument: str, context: RewardContext) -> Reward:
    """Likelihood of the left half of an example (of a point, the first half of its coordinates)."""
    example, noise = _observed(argument, context, "mask")
    if example.ndim == 3:
        width = example.shape[1]
        left = (jnp.arange(width) < width // 2)[None, :, None]
    elif example.ndim == 2:  # the first half of a series or a text
        left = (jnp.arange(len(example)) < (len(example) + 1) // 2)[:, None]
    else:  # of an odd number the middle one is observed
        left = jnp.arange(example.size) < (example.size + 1) // 2
    return Observation(example, jnp.broadcast_to(left, example.shape) * 1.0, noise)


@register_reward("prefix", "TEXT[,NOISE]")
def _prefix(argument: str, context: RewardContext) -> Reward:
    """Likelihood of the first symbols of a text: the rest is completed."""
    spec = context.text
    if spec is None:
        raise UserError("the reward 'prefix' is for text (apps.train --data text)")
    head, comma, last = argument.rpartition(",")
    given = head if comma else argument
    (noise,) = numbers(last if comma else "", (NOISE,), "prefix:TEXT,NOISE")
    require(noise > 0, f"--reward prefix: the noise must be positive, got {noise:g}")
    return beginning(spec, given, noise)


@register_reward("blur", "[INDEX,NOISE]")
def _blur(argument: str, context: RewardContext) -> Reward:
    """Likelihood of an example behind a Gaussian blur of one pixel: sharpened."""
    shape = context.image("blur")
    example, noise = _observed(argument, context, "blur")
    return LinearInverse.of(blur_of(shape, 1.0), example, noise)


@register_reward("superres", "[INDEX,NOISE]")
def _superres(argument: str, context: RewardContext) -> Reward:
    """Likelihood of the means of an example's 2x2 blocks (4x4 from 32 pixels on): enlarged."""
    shape = context.image("superres")
    factor = 4 if min(shape[:2]) >= 32 else 2
    require(
        shape[0] % factor == 0 and shape[1] % factor == 0,
        f"the reward 'superres' needs sides divisible by {factor}, not {shape[0]}x{shape[1]}",
    )
    example, noise = _observed(argument, context, "superres")
    return LinearInverse.of(shrinking(shape, factor), example, noise)


def _observed(argument: str, context: RewardContext, name: str):
    index, noise = numbers(argument, (0, NOISE), f"{name}:INDEX,NOISE")
    require(noise > 0, f"--reward {name}: the noise must be positive, got {noise:g}")
    return context.example(index, name), noise


@register_reward("compressibility", gradient=False)
def _compressibility(argument: str, context: RewardContext) -> Reward:
    """Minus the bytes as a JPEG file of quality 95."""
    del argument
    return Compressibility(context.image("compressibility"))


@register_reward("python", "MODULE:FUNCTION")
def _python(argument: str, context: RewardContext) -> Reward:
    """A function of yours on one example, in JAX; of text on a string, without a gradient."""
    function = load_function(argument)
    return function_reward(function) if context.text is None else OfText(function, context.text)


@register_reward("numpy", "MODULE:FUNCTION", gradient=False)
def _numpy(argument: str, context: RewardContext) -> Reward:
    """A function of yours on one example, in NumPy or any other library."""
    function = load_function(argument)
    return NumpyFunction(function) if context.text is None else OfText(function, context.text)
