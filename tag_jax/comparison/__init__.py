"""Ways to group tasks side by side: what a grouping costs to find, and what it gains.

found = comparison.compare(problem, dataset, ['all_in_one', 'tag', 'subsets'], [2, 3, 4], config)
"""

from tag_jax.comparison.methods import (
    ALL_IN_ONE,
    EXHAUSTIVE,
    METHODS,
    RANDOM,
    SMALL,
    WIDE,
    Proposal,
    Search,
)
from tag_jax.comparison.outcomes import (
    Comparison,
    CrossFitted,
    Outcome,
    check,
    compare,
    cross_fitted_optimum,
    propose,
    searching,
)
from tag_jax.comparison.predictions import PREDICTIONS, correlation, within_task_correlations
from tag_jax.comparison.statistics import Line, summary

__all__ = [
    'ALL_IN_ONE',
    'EXHAUSTIVE',
    'METHODS',
    'PREDICTIONS',
    'RANDOM',
    'SMALL',
    'WIDE',
    'Comparison',
    'CrossFitted',
    'Line',
    'Outcome',
    'Proposal',
    'Search',
    'check',
    'compare',
    'correlation',
    'cross_fitted_optimum',
    'propose',
    'searching',
    'summary',
    'within_task_correlations',
]
