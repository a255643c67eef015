"""What theory says of affinities on convex quadratics, and where it does not hold as printed.

Fifty et al. 2021, Lemma 1 and Proposition 1. L_a(x) = x'Hx / 2 with eigenvalues from alpha to beta;
g_b and g_c are the gradients of two other tasks.
"""

from typing import NamedTuple

import numpy as np


class Quadratics(NamedTuple):
    """N quadratics in D variables, in the axes of their Hessians, and a step at a point of each.

    Attributes:
      eigenvalues, point, g_b, g_c: `[N, D]`.
      eta: `[N]`, at most 1 / beta.
    """

    eigenvalues: np.ndarray
    point: np.ndarray
    g_b: np.ndarray
    g_c: np.ndarray
    eta: np.ndarray

    @property
    def g_a(self):
        return self.eigenvalues * self.point

    def loss_after(self, gradient):
        """L_a after a step along a gradient, `[N]`."""
        moved = self.point - self.eta[:, None] * gradient
        return 0.5 * np.sum(self.eigenvalues * moved**2, axis=1)


def random_quadratics(count, width, seed, equal_norms=False):
    rng = np.random.default_rng(seed)
    eigenvalues = rng.uniform(1, rng.uniform(1.001, 3, size=(count, 1)), size=(count, width))
    point, g_b, g_c = rng.normal(size=(3, count, width))
    eta = rng.uniform(size=count) / eigenvalues.max(axis=1)
    found = Quadratics(eigenvalues, point, g_b, g_c, eta)
    if equal_norms:
        length = np.linalg.norm(found.g_a, axis=1, keepdims=True)
        scaled = lambda g: length * g / np.linalg.norm(g, axis=1, keepdims=True)
        found = found._replace(g_b=scaled(g_b), g_c=scaled(g_c))
    return found


def dot(left, right):
    return np.sum(left * right, axis=-1)


def condition_of_proposition_1(q):
    """cos(g_a, g_c) <= eta / 4 alpha beta / (beta - alpha) - 1, as printed."""
    alpha, beta = q.eigenvalues.min(axis=1), q.eigenvalues.max(axis=1)
    cosine = dot(q.g_a, q.g_c) / np.linalg.norm(q.g_a, axis=1) / np.linalg.norm(q.g_c, axis=1)
    return cosine <= q.eta / 4 * alpha * beta / (beta - alpha) - 1


def test_lemma_1():
    """If b has the higher affinity onto a, then g_a.g_c - beta eta/2 |g_c|^2 + alpha eta/2 |g_b|^2
    is at most g_a.g_b (Equation 2)."""
    for width in (2, 3, 8):
        q = random_quadratics(50_000, width, seed=width)
        alpha, beta = q.eigenvalues.min(axis=1), q.eigenvalues.max(axis=1)
        higher = q.loss_after(q.g_b) <= q.loss_after(q.g_c)
        left = dot(q.g_a, q.g_c) + q.eta / 2 * (
            alpha * dot(q.g_b, q.g_b) - beta * dot(q.g_c, q.g_c)
        )
        right = dot(q.g_a, q.g_b)
        assert 10_000 < higher.sum() < 40_000
        assert (left <= right + 1e-12)[higher].all()
        assert not (left <= right)[~higher].all(), 'the lemma says something'


def test_proposition_1_does_not_hold_as_printed():
    """A small counterexample: norms are equal, eta = 1 / beta, and its condition is met.

    b has the higher affinity onto a, and yet a step on a and c together lowers L_a more than one on
    a and b: the proof loses a term where it puts Lemma 1 into the bounds.
    """
    length = np.sqrt(17)
    q = Quadratics(
        eigenvalues=np.array([[1.0, 2]]),
        point=np.array([[1.0, 2]]),
        g_b=length * np.array([[-1.0, 4]]) / np.sqrt(17),
        g_c=length * np.array([[1.0, -2]]) / np.sqrt(5),
        eta=np.array([0.5]),
    )
    assert np.linalg.norm(q.g_a) == np.sqrt(17)
    assert condition_of_proposition_1(q)
    after = [
        q.loss_after(gradient).item() for gradient in (q.g_b, q.g_c, q.g_a + q.g_b, q.g_a + q.g_c)
    ]
    np.testing.assert_allclose(after, [1.125, 14.779, 4.5, 3.489], atol=5e-4)


def test_how_often_proposition_1_is_violated():
    """Some two percent of random cases that meet its conditions (eigenvalues between 1 and 3)."""
    q = random_quadratics(200_000, 2, seed=0, equal_norms=True)
    meets = condition_of_proposition_1(q) & (q.loss_after(q.g_b) <= q.loss_after(q.g_c))
    with_b, with_c = (q.loss_after(q.g_a + gradient) for gradient in (q.g_b, q.g_c))
    violated = meets & (with_b > with_c * (1 + 1e-9))
    assert meets.sum() > 10_000
    assert 0.005 < violated.sum() / meets.sum() < 0.05
