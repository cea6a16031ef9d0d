"""The times at which a map should stop, from the measured cost of its jumps."""

import numpy as np
from jaxtyping import Float


def best_times(cost: Float[np.ndarray, "nodes nodes"], jumps: int) -> list[int]:
    """The numbers of the nodes, from the first to the last, of the cheapest way in `jumps` jumps.

    `cost[i, j]` is the error of the jump from node `i` to node `j > i` where it counts, at the last
    node; the errors of a way are added up, as the triangle inequality allows. A jump whose cost is
    not finite is none. By dynamic programming over all ways. Raises `ValueError` where there are
    fewer nodes than jumps, and where no way is finite.
    """
    count = len(cost)
    if not 1 <= jumps < count:
        raise ValueError(f"{jumps} jumps need at least {jumps + 1} nodes, got {count}.")
    there = np.triu(np.isfinite(cost), 1)
    steps = np.where(there, cost, np.inf)
    total, origins = np.full(count, np.inf), []
    total[0] = 0.0
    for _ in range(jumps):
        through = total[:, None] + steps
        origins.append(np.argmin(through, axis=0))
        total = np.min(through, axis=0)
    if not np.isfinite(total[-1]):
        raise ValueError(f"No way of {jumps} jumps has a finite cost.")
    way = [count - 1]
    for origin in reversed(origins):
        way.append(int(origin[way[-1]]))
    return way[::-1]
