"""diffusers' schedulers: the clock of a network, and what it predicts."""

from collections.abc import Mapping
from typing import Any

from core.errors import UserError
from core.nets.native import STEPS

PREDICTIONS = {"epsilon": "noise", "sample": "x_0", "v_prediction": "velocity"}
"""What networks of discrete diffusion predict, by diffusers' names and by those of
`core.nets.native.Predicted`."""
FLOW = "FlowMatchEulerDiscreteScheduler"
CLOCK, PREDICTION = "linear 0.0001 0.02 1000", "noise"


def scheduled(
    config: Mapping[str, Any] | None, clock: str | None = None, prediction: str | None = None
) -> tuple[str, str | None, str]:
    """The clock and the prediction, and what was assumed of them.

    **Arguments:** `config`, the content of `scheduler_config.json`; `clock` and `prediction` where
    the user says them. **Returns:** a prediction of None for a velocity of flow matching.
    **Raises:** `UserError` for schedules that are not known, which names them.
    """
    said = []
    if clock is None:
        clock = CLOCK if config is None else clock_of(config)
        said += [f"the clock '{CLOCK}' (--clock)"] if config is None else []
    if prediction is None and clock.split()[:1] != [] and clock.split()[0] in STEPS:
        prediction = PREDICTION if config is None else _prediction(config)
        said += [f"that it predicts the {PREDICTION} (--prediction)"] if config is None else []
    return clock, prediction, ", ".join(said)


def clock_of(config: Mapping[str, Any]) -> str:
    """The clock of a scheduler (`core.nets.native`). Raises `UserError` for one that is not
    known."""
    if config.get("_class_name") == FLOW:
        if config.get("num_train_timesteps", 1000) != 1000:
            raise _unknown("num_train_timesteps", config)
        return "thousand"
    for option in ("trained_betas", "rescale_betas_zero_snr"):
        if config.get(option) not in (None, False):
            raise _unknown(option, config)
    kind = config.get("beta_schedule", "linear")
    if not isinstance(kind, str) or kind not in STEPS:
        raise _unknown("beta_schedule", config)
    options = {"beta_start": 1e-4, "beta_end": 0.02} if STEPS[kind] > 1 else {}
    words = [kind]
    for option, default in (options | {"num_train_timesteps": 1000}).items():
        value = config.get(option, default)
        if type(value) not in (int, float):
            raise _unknown(option, config)
        words.append(f"{value:.12g}")
    return " ".join(words)


def _prediction(config: Mapping[str, Any]) -> str:
    named = config.get("prediction_type", "epsilon")
    if not isinstance(named, str) or named not in PREDICTIONS:
        raise UserError(
            f"a scheduler with prediction_type = {str(named)[:40]} is not known; "
            f"{', '.join(PREDICTIONS)} are: say what the network predicts as --prediction"
        )
    return PREDICTIONS[named]


def _unknown(option: str, config: Mapping[str, Any]) -> UserError:
    value = str(config.get(option))[:40]
    return UserError(
        f"a scheduler with {option} = {value} is not known; say the network's times as --clock"
    )
