"""What is true of each method, stated once; tests/optim checks it and docs/methods.md shows it.

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

from tag_jax import optim

METHODS = {
    'equal': optim.equal,
    'fixed': functools.partial(optim.fixed, 2.0),
    'mgda': optim.mgda,
    'mgda, l2': functools.partial(optim.mgda, normalization='l2'),
    'mgda, l2, rescaled': functools.partial(optim.mgda, normalization='l2', rescale=True),
    'uncertainty': optim.uncertainty,
    'gradnorm': functools.partial(optim.gradnorm, space='shared'),
    'pcgrad': optim.pcgrad,
    'cagrad': optim.cagrad,
    'cagrad, c = 1.5': functools.partial(optim.cagrad, c=1.5),
    'upgrad': optim.upgrad,
    'imtl_g': optim.imtl_g,
    'aligned_mtl': optim.aligned_mtl,
    'nash_mtl': optim.nash_mtl,
    'dwa': functools.partial(optim.dwa, 10),
    'rlw': optim.rlw,
    'famo': optim.famo,
}

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
    'aligned_mtl': 'permutation homogeneous',
    'nash_mtl': 'permutation scale-free descent convex',
    'dwa': 'permutation homogeneous convex one-pass',
    'rlw': 'homogeneous convex simplex one-pass',
    'famo': 'permutation homogeneous convex simplex one-pass',
}
PROPERTIES = {name: frozenset(text.split()) for name, text in PROPERTIES.items()}


def having(*properties):
    """The names of the methods that have all of some properties."""
    return [name for name, found in PROPERTIES.items() if found.issuperset(properties)]
