"""The versions behind a measurement, for the files that keep it."""

import datetime
import platform

import jax
import numpy as np


def versions() -> dict[str, str]:
    """Python, JAX and NumPy, the device and the date."""
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "device": jax.devices()[0].device_kind,
        "date": datetime.date.today().isoformat(),
    }


def caption(found: dict[str, str]) -> str:
    """The versions as one sentence."""
    return (
        f"Python {found['python']}, JAX {found['jax']}, {found['device']} device, {found['date']}."
    )
