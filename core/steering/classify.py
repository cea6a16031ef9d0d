"""The reward of a trained classifier, and the class shares of samples by a second one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from core.nets.encoder import Classifier
from core.steering.reward import Reward


class ClassProbability(Reward):
    """`log softmax(f(x))_k`, the log-probability of one class.

    With `lambda = 1` and a classifier that is right, the tilted distribution is that of the class,
    and Z its share. Samples can please this classifier without being of the class: judge them by
    another.
    """

    classifier: Classifier
    index: Int[Array, ""]

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        return jax.nn.log_softmax(self.classifier(x))[self.index]


@eqx.filter_jit
def _votes(classifier: Classifier, x: Float[Array, " n *shape"]) -> Array:
    return jax.vmap(lambda one: jnp.argmax(classifier(one)))(x)


def class_shares(
    classifier: Classifier,
    x: Float[np.ndarray, " n *shape"],
    weights: Float[np.ndarray, " n"],
    together: int = 1024,
) -> Float[np.ndarray, " classes"]:
    """The share of the weight that the classifier gives to each class; they sum to 1."""
    votes = [
        _votes(classifier, jnp.asarray(x[i : i + together])) for i in range(0, len(x), together)
    ]
    counts = np.bincount(np.concatenate(votes), weights, classifier.num_classes)
    return counts / counts.sum()
