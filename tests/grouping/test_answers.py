"""Answers of networks that are kept at several steps."""

import numpy as np

from tag_jax.grouping.answers import at_own_steps


def test_each_task_is_answered_from_its_own_step():
    at = lambda step: lambda inputs: {task: inputs + step for task in 'abc'}
    inputs = np.arange(3)
    predict = at_own_steps([at(10), at(20), at(30)], [('b',), ('c',)])
    found = predict(inputs)
    for task, step in zip('abc', (10, 20, 30), strict=True):
        np.testing.assert_array_equal(found[task], inputs + step)
    alone = at(10)
    assert at_own_steps([alone], []) is alone
