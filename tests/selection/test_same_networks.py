"""A selection is of the candidates that it was chosen from, and of no others."""

import numpy as np
import pytest

from tag_jax import report, selection

NAN = np.nan


def test_a_selection_of_other_candidates_is_refused():
    """Predicted candidates stand in another order than those that were trained."""
    trained = selection.Candidates(
        [[1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]],
        [[9, 9, 9], [1, 2, NAN], [3, NAN, 4], [NAN, 5, 6]],
        [1, 1, 1, 1],
        ('a', 'b', 'c'),
    )
    predicted = selection.higher_order_approximation(trained)
    for budget in (1, 2):
        chosen = selection.select_networks(predicted, budget)
        assert selection.served_scores(chosen, predicted).sum() == chosen.objective
        with pytest.raises(ValueError, match='the selection is not one of these candidates'):
            selection.served_scores(chosen, trained)
        with pytest.raises(ValueError, match='the selection is not one of these candidates'):
            report.notation(chosen, trained)
    chosen = selection.select_networks(trained, 2)
    renamed = trained.replace(network_names=('w', 'x', 'y', 'z'))
    with pytest.raises(ValueError, match="its network 1, 'network 1', is 'x' among them"):
        selection.served_scores(chosen, renamed)
    with pytest.raises(ValueError, match='its tasks are a, b, c, theirs are c, b, a'):
        selection.served_scores(chosen, trained.replace(task_names=('c', 'b', 'a')))
    with pytest.raises(ValueError, match='not one of these candidates: its network 2'):
        selection.served_scores(chosen, trained.take([0, 1]))
