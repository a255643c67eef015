"""Whether a weighting compares gradients in the representation: it is asked, and told of none."""

import functools

import optax
import pytest

from tag_jax import data, weighting

NAMES = ('a', 'b', 'c')
in_representation = lambda make: functools.partial(make, space='representation')


@pytest.mark.variants(5)
@pytest.mark.parametrize(
    ('make', 'expected'),
    [
        (weighting.mgda_ub, True),
        (lambda: optax.chain(weighting.mgda_ub('l2'), optax.clip_by_global_norm(1.0)), True),
        (in_representation(weighting.imtl_g), True),
        (in_representation(weighting.pcgrad), True),
        (in_representation(weighting.aligned_mtl), True),
        (in_representation(weighting.fairgrad), True),
        (weighting.mgda, False),
        (weighting.pcgrad, False),
        (weighting.imtl_g, False),
        (weighting.stch, False),
        (weighting.db_mtl, False),
        (weighting.gradnorm, False),  # Norms alone, in either space.
        (lambda: weighting.fixed({'a': 1, 'b': 2, 'c': 3}), False),
        (optax.identity, False),
    ],
)
def test_transforms_say_what_they_compare(make, expected):
    assert weighting.compares_representations(make, NAMES) is expected


def split(*known):
    """Four examples, and which of them have a label of each task."""
    return data.Split(
        [[0.0]] * 4,
        {task: [0.0] * 4 for task in NAMES},
        {task: own for task, own in zip(NAMES, known, strict=True)},
    )


def test_only_tasks_without_a_common_example_are_named():
    apart = split([1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0])
    remark = weighting.remark_on_overlaps('mgda_ub', weighting.mgda_ub, apart, NAMES)
    assert remark.startswith('mgda_ub compares gradients in the space of the representation')
    assert 'it weighs a and b by norms alone' in remark
    assert "space='shared'" in remark
    assert weighting.remark_on_overlaps('mgda', weighting.mgda, apart, NAMES) is None
    together = split([1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0])
    assert weighting.remark_on_overlaps('mgda_ub', weighting.mgda_ub, together, NAMES) is None
