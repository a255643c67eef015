"""Network selection: which groups of tasks to train under an inference budget. Pure NumPy.

Examples:
  Groups from affinities `[T, T]`, source task first:

  >>> from tag_jax import selection
  >>> selected = selection.select_groups([[0, 3, -1], [2, 0, -1], [1, 0, 0]], budget=2)
  >>> selected.groups, selected.serves, selected.objective
  (((0, 1), (0, 2)), ((0, 1), (2,)), 4.0)

  Networks from the losses that they reached and what they cost:

  >>> networks = selection.Candidates.from_table(
  ...     [
  ...         {'name': 'both', 'scores': {'depth': 0.19, 'edges': 0.045}},
  ...         {'name': 'small edges', 'scores': {'edges': 0.03}, 'cost': 0.5},
  ...     ]
  ... )
  >>> selection.select_networks(networks, budget=1.5).serves
  ((0,), (1,))
"""

from tag_jax.selection.baselines import (
    Spread,
    all_in_one,
    independent,
    pessimal,
    random_selections,
)
from tag_jax.selection.candidates import Candidates
from tag_jax.selection.groups import MAX_EXACT_TASKS, select_groups
from tag_jax.selection.networks import select_networks, serve, served_scores
from tag_jax.selection.predictors import (
    affinity_candidates,
    all_groups,
    higher_order_approximation,
    ratio_errors,
)
from tag_jax.selection.reading import read_candidates
from tag_jax.selection.relations import correlation, mutual_gains, pair_gains
from tag_jax.selection.result import Infeasible, Selection
from tag_jax.selection.surrogate import (
    AdditiveModel,
    additive_model,
    fit_additive_model,
    select_additive,
)
from tag_jax.selection.trade_off import (
    Choice,
    LeftOut,
    TradeOff,
    explained_mean_trade_off,
    explained_trade_off,
    mean_trade_off,
    trade_off,
)

__all__ = [
    'MAX_EXACT_TASKS',
    'AdditiveModel',
    'Candidates',
    'Choice',
    'Infeasible',
    'LeftOut',
    'Selection',
    'Spread',
    'TradeOff',
    'additive_model',
    'affinity_candidates',
    'all_groups',
    'all_in_one',
    'correlation',
    'explained_mean_trade_off',
    'explained_trade_off',
    'fit_additive_model',
    'higher_order_approximation',
    'independent',
    'mean_trade_off',
    'mutual_gains',
    'pair_gains',
    'pessimal',
    'random_selections',
    'ratio_errors',
    'read_candidates',
    'select_additive',
    'select_groups',
    'select_networks',
    'serve',
    'served_scores',
    'trade_off',
]
