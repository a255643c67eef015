"""What is true of each method, stated once; tests/weighting checks it and docs/methods.md shows it.

permutation   reordering the tasks changes nothing
homogeneous   gradients times c > 0 give the result times c
scale free    scaling each task by itself changes the direction's length only, or nothing
linear        linear in the scales of the tasks
descent       no task's loss rises to first order, in the space of the method
stationary    zero where a combination of gradients with positive weights is zero
convex        weights are not negative
simplex       weights are not negative and sum to one
one pass      needs no Gram matrix, hence one backward pass in any case
"""

import functools

import pytest

from tag_jax import weighting

METHODS = {
    'equal': weighting.equal,
    'fixed': functools.partial(weighting.fixed, 2.0),
    'mgda': weighting.mgda,
    'mgda, l2': functools.partial(weighting.mgda, normalization='l2'),
    'mgda, l2, rescaled': functools.partial(weighting.mgda, normalization='l2', rescale=True),
    'uncertainty': weighting.uncertainty,
    'gradnorm': functools.partial(weighting.gradnorm, space='shared'),
    'pcgrad': weighting.pcgrad,
    'cagrad': weighting.cagrad,
    'cagrad, c = 1.5': functools.partial(weighting.cagrad, c=1.5),
    'upgrad': weighting.upgrad,
    'imtl_g': weighting.imtl_g,
    'imtl_g, projections': functools.partial(weighting.imtl_g, 'projections'),
    'aligned_mtl': weighting.aligned_mtl,
    'nash_mtl': weighting.nash_mtl,
    'fairgrad': weighting.fairgrad,
    'db_mtl, beta = 0': functools.partial(weighting.db_mtl, 0),
    'dwa': functools.partial(weighting.dwa, 10),
    'rlw': weighting.rlw,
    'famo': weighting.famo,
    'stch': weighting.stch,
}

# With --all, the variants of a method as well.
EACH = [pytest.param(name, marks=[pytest.mark.sweep] if ',' in name else []) for name in METHODS]

PROPERTIES = {
    'equal': 'permutation homogeneous linear stationary convex one-pass',
    'fixed': 'permutation homogeneous linear stationary convex one-pass',
    'mgda': 'permutation homogeneous descent stationary convex simplex',
    'mgda, l2': 'permutation homogeneous convex simplex',
    'mgda, l2, rescaled': 'permutation scale-free descent stationary convex',
    'uncertainty': 'permutation homogeneous convex one-pass',
    'gradnorm': 'permutation homogeneous convex',
    'pcgrad': 'homogeneous convex',
    'cagrad': 'permutation homogeneous convex',
    'cagrad, c = 1.5': 'permutation homogeneous descent convex',
    'upgrad': 'permutation homogeneous linear descent stationary convex',
    'imtl_g': 'permutation homogeneous',
    'imtl_g, projections': 'permutation homogeneous linear',
    'aligned_mtl': 'permutation homogeneous',
    'nash_mtl': 'permutation scale-free descent convex',
    'fairgrad': 'permutation descent convex',
    'db_mtl, beta = 0': 'permutation homogeneous convex',
    'dwa': 'permutation homogeneous convex one-pass',
    'rlw': 'homogeneous convex simplex one-pass',
    'famo': 'permutation homogeneous convex simplex one-pass',
    'stch': 'permutation homogeneous convex one-pass',
}
PROPERTIES = {name: frozenset(text.split()) for name, text in PROPERTIES.items()}


def having(*properties):
    """The names of the methods that have all of some properties."""
    return [name for name, found in PROPERTIES.items() if found.issuperset(properties)]
