"""Network selection: which groups of tasks to train under an inference budget. Pure NumPy.

from tag_jax import selection
selected = selection.select_groups(affinity, budget=2)      # affinity [T, T], source task first
selected.groups, selected.serves, selected.objective
"""

from tag_jax.selection.candidates import Candidates, read_candidates
from tag_jax.selection.groups import select_groups
from tag_jax.selection.networks import select_networks
from tag_jax.selection.result import Selection

__all__ = [
    'Candidates',
    'Selection',
    'read_candidates',
    'select_groups',
    'select_networks',
]
