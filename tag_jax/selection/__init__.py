"""Network selection: which groups of tasks to train under an inference budget. Pure NumPy.

from tag_jax import selection
selected = selection.select_groups(affinity, budget=2)      # affinity [T, T], source task first
selected.groups, selected.serves, selected.objective
"""

from tag_jax.selection.groups import MAX_TASKS, select_groups
from tag_jax.selection.result import Selection

__all__ = ['MAX_TASKS', 'Selection', 'select_groups']
