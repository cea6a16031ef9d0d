"""The rewards of `apps.tilt`: their table, and how those that the flags name are made."""

from pathlib import Path
from typing import Any

import numpy as np

from core.errors import require
from core.nets.encoder import Classifier
from core.steering.classify import ClassProbability, class_shares
from core.steering.registry import rewards
from core.steering.reward import Reward, Sum
from core.train.features import open_classifier
from portolan.model import Model
from portolan.tables import print_table


def print_rewards() -> list[dict[str, Any]]:
    """Prints the table of all rewards and returns its rows."""
    rows = [
        {"reward": kind.usage, "gradient": kind.gradient, "what": kind.summary}
        for kind in rewards().values()
    ]
    print_table("rewards (--reward NAME)", ("reward", "gradient", "what"), rows)
    return rows


def open_judge(run: Model, judge: str | None, classifier: str | None) -> Classifier | None:
    """The second classifier. Raises `UserError` where it is the one that the reward asks."""
    if judge is None:
        return None
    same = classifier is not None and Path(judge).resolve() == Path(classifier).resolve()
    require(
        not same,
        "--judge must be another classifier than --classifier, or it confirms itself: train a "
        "second one with another --seed and --run",
    )
    return open_classifier(judge, run.spec)


def wanted_class(reward: Reward) -> int | None:
    """The class that the reward asks for, or None where it asks for none or for several."""
    parts = reward.rewards if isinstance(reward, Sum) else (reward,)
    asked = {int(part.index) for part in parts if isinstance(part, ClassProbability)}
    return asked.pop() if len(asked) == 1 else None


def judged(
    judge: Classifier | None, reward: Reward, x: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, Any]:
    """The columns `success`, the share of the samples' weight that the judge (a second classifier)
    gives to the class that is asked for, and `classes`, the shares of all classes; none without a
    judge."""
    if judge is None:
        return {}
    weights = np.full(len(x), 1 / len(x)) if weights is None else weights
    shares, index = class_shares(judge, x, weights), wanted_class(reward)
    success = {} if index is None else {"success": float(shares[index])}
    return {**success, "classes": [round(float(share), 4) for share in shares]}


def print_classes(rows: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    """Prints the shares of the classes, a row for each method, where there is a judge."""
    if not any("classes" in row for row in rows):
        return
    count = len(rows[0]["classes"])
    labels = names if len(names) == count else tuple(map(str, range(count)))
    table = [{"method": row["method"], **dict(zip(labels, row["classes"]))} for row in rows]
    print_table("shares of the classes, by the judge", ("method", *labels), table)
