"""Sentences of `tag-jax select`."""

from tag_jax import selection
from tag_jax.launchers import select_notes


def test_budgets_without_a_selection_are_told_in_one_sentence():
    rows = [
        {'name': 'A', 'tasks': ['a'], 'cost': 1, 'scores': {'a': 0.3}},
        {'name': 'B', 'tasks': ['b'], 'cost': 1, 'scores': {'b': 0.2}},
    ]
    candidates = selection.Candidates.from_table(rows, ['a', 'b'])
    found = selection.explained_trade_off(candidates, [1, 1.5, 2])
    assert select_notes.left_out(found)[0] == (
        'Left out: every method at a budget of 1, 1.5: no selection within a budget of 1.5 covers '
        'every task: the least budget that does is 2'
    )
