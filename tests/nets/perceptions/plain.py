"""Networks written down a second time: NumPy, float64, channels first, nothing folded."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def convolution(x, weight, stride=1, padding=(0, 0, 0, 0)):
    """`x` (c, h, w), `weight` (out, c, kh, kw), padding (top, bottom, left, right)."""
    x = np.pad(x, ((0, 0), padding[:2], padding[2:]))
    seen = sliding_window_view(x, weight.shape[2:], (1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,ocij->ohw", seen, weight, optimize=True)


def depthwise(x, weight, stride, padding):
    """`weight` (c, 1, k, k)."""
    x = np.pad(x, ((0, 0), padding[:2], padding[2:]))
    seen = sliding_window_view(x, weight.shape[2:], (1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,cij->chw", seen, weight[:, 0])


def norm(x, tensors, name, epsilon=1e-3):
    """Batch norm with its running moments."""
    scale, shift, mean, var = (
        tensors[f"{name}.{part}"][:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(var + epsilon) * scale + shift


def pool(x, how, stride=1, pad=0):
    """Of 3 x 3 places, those in the padding left out; `how` is `np.nanmean` or `np.nanmax`."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), constant_values=np.nan)
    seen = sliding_window_view(x, (3, 3), (1, 2))[:, ::stride, ::stride]
    return how(seen.reshape(*seen.shape[:3], 9), axis=-1)
