"""Queues of real examples, one a class: a step sees more of a class than its own batch holds.

Arrays of fixed size, so that they live in the carry of the objective, inside the compiled step and
in checkpoints. Source: drifting models (Deng et al., 2026), section on implementation.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key


class Queue(eqx.Module):
    """The last `size` examples of each class, and how many of each have come so far."""

    examples: Float[Array, " classes size *shape"]
    count: Int[Array, " classes"]

    @property
    def size(self) -> int:
        """Places a class."""
        return self.examples.shape[1]


def empty(classes: int, size: int, shape: tuple[int, ...]) -> Queue:
    """A queue with no examples in it."""
    return Queue(jnp.zeros((classes, size, *shape)), jnp.zeros(classes, jnp.int32))


def push(queue: Queue, x: Float[Array, " n *shape"], label: Int[Array, " n"]) -> Queue:
    """Puts in a batch: in its class each example takes the place of the oldest.

    Of more than `size` examples of one class the last ones stay.
    """
    same = label[:, None] == label[None, :]
    before = jnp.sum(jnp.tril(same, -1), axis=1)
    place = (queue.count[label] + before) % queue.size
    stays = jnp.sum(jnp.triu(same, 1), axis=1) < queue.size
    place = jnp.where(stays, place, queue.size)  # outside: dropped
    examples = queue.examples.at[label, place].set(x.astype(queue.examples.dtype), mode="drop")
    return Queue(examples, queue.count.at[label].add(1))


def draw(
    queue: Queue, label: Int[Array, " groups"], n: int, key: Key[Array, ""]
) -> tuple[Float[Array, " groups n *shape"], Bool[Array, "groups n"]]:
    """`n` different examples of the class of each group, and which of them there are.

    A queue that holds fewer than `n` yields all it has.
    """

    def places(label: Array, key: Array) -> tuple[Array, Array]:
        order = jnp.where(jnp.arange(queue.size) < queue.count[label], jr.uniform(key, held), -1.0)
        rank, place = jax.lax.top_k(order, n)
        return place, rank >= 0

    held = (queue.size,)
    place, there = jax.vmap(places)(label, jr.split(key, len(label)))
    return queue.examples[label[:, None], place], there
