"""One of two processes, of two devices each, that train a network and measure it together.

    JAX_NUM_CPU_DEVICES=2 python tests/measuring_processes.py PORT PROCESS FILE

writes to FILE the metrics of the result, and what the network gives for the test examples.
"""

import pickle
import sys

import jax
import numpy as np
from small import make_problem, make_split

from tag_jax import grouping, objectives
from tag_jax.data import Dataset
from tag_jax.training import TrainingConfig

TASKS = {
    'sign': objectives.judged_by(objectives.classification(2), 'roc_auc'),
    'octant': objectives.judged_by(objectives.classification(8), 'balanced_accuracy'),
    'radius': objectives.regression(),
}
CONFIG = TrainingConfig(steps=4, batch_size=32, eval_every=4, slots=1, patience=0, mesh=(1, 4))


def splits():
    """Labels of the first task and of the last are missing here and there."""
    found = [make_split(size, n, 0.7) for n, size in enumerate((256, 130, 150))]
    whole = [make_split(size, n) for n, size in enumerate((256, 130, 150))]
    return [
        own._replace(
            targets={**own.targets, 'octant': all_labels.targets['octant']},
            mask={task: own.mask[task] for task in ('sign', 'radius')},
        )
        for own, all_labels in zip(found, whole, strict=True)
    ]


def measured(config=CONFIG):
    """(metrics of the result, outputs for the test examples)."""
    dataset = Dataset('points', TASKS, *splits())
    method = grouping.all_in_one()
    result = grouping.group_tasks(make_problem(TASKS), dataset, 1, method, config)
    outputs = result.outputs(dataset.test.inputs)
    return dict(result.metrics), {task: np.asarray(array) for task, array in outputs.items()}


def main(port, process, file):
    jax.distributed.initialize(f'localhost:{port}', 2, int(process))
    with open(file, 'wb') as opened:
        pickle.dump(measured(), opened)


if __name__ == '__main__':
    main(*sys.argv[1:])
