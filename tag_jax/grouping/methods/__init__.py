"""Ways to find groups, a function each: what one asks for, and what it proposes.

affinities.py   by affinities that one network measures
networks.py     by networks for sets of tasks, whole or brief
verifying.py    the best groupings of another method, tried
plain.py        baselines that look at no task
"""

from tag_jax.grouping.methods.affinities import (
    cosine_similarity,
    from_affinities,
    spectral,
    tag,
)
from tag_jax.grouping.methods.networks import esa, exhaustive, hoa, linearised, pessimal, subsets
from tag_jax.grouping.methods.plain import (
    all_but_one,
    all_in_one,
    given,
    random,
    random_even,
    single_task,
)
from tag_jax.grouping.methods.recommending import recommended
from tag_jax.grouping.methods.verifying import verify

__all__ = [
    'all_but_one',
    'all_in_one',
    'cosine_similarity',
    'esa',
    'exhaustive',
    'from_affinities',
    'given',
    'hoa',
    'linearised',
    'pessimal',
    'random',
    'random_even',
    'recommended',
    'single_task',
    'spectral',
    'subsets',
    'tag',
    'verify',
]
