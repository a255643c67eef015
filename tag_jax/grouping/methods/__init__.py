"""Ways to find groups, a function each: what one asks for, and what it proposes.

affinities.py   by affinities that one network measures
networks.py     by networks for sets of tasks, whole or brief
verifying.py    the best groupings of another method, tried
plain.py        baselines that look at no task
"""

from tag_jax.grouping.methods.affinities import (
    by_affinities,
    cosine_similarity,
    from_affinities,
    measured,
    tag,
)
from tag_jax.grouping.methods.networks import (
    BRIEF,
    EARLY,
    NUM_SUBSETS,
    esa,
    exhaustive,
    hoa,
    linearised,
    pessimal,
    subsets,
)
from tag_jax.grouping.methods.plain import all_in_one, given, random, random_even, single_task
from tag_jax.grouping.methods.recommending import recommended
from tag_jax.grouping.methods.verifying import PROPOSALS, preferred, proposed, verify

__all__ = [
    'BRIEF',
    'EARLY',
    'NUM_SUBSETS',
    'PROPOSALS',
    'all_in_one',
    'by_affinities',
    'cosine_similarity',
    'esa',
    'exhaustive',
    'from_affinities',
    'given',
    'hoa',
    'linearised',
    'measured',
    'pessimal',
    'preferred',
    'proposed',
    'random',
    'random_even',
    'recommended',
    'single_task',
    'subsets',
    'tag',
    'verify',
]
