"""Folders of finished runs that nothing was trained for."""

import numpy as np

from tag_jax import affinity
from tag_jax.runs import affinity_files, storage, workdir

NAMES = ['a', 'b', 'c']
RESULTS = {
    'dataset': 'letters',
    'method': 'tag',
    'budget': 2,
    'seed': 0,
    'task_names': NAMES,
    'groups': [
        {'tasks': ['a', 'b'], 'serves': ['a', 'b'], 'network': 'network_0'},
        {'tasks': ['a', 'c'], 'serves': ['c'], 'network': 'network_1'},
    ],
    'test_error': {'a': 1.0, 'b': 2.0, 'c': 3.25},
    'total_test_error': 6.25,
    'baselines': {'mtl': {'test_error': {'a': 2.0, 'b': 4.0, 'c': 4.0}, 'total_test_error': 10.0}},
    'cost': {'search_steps': 20, 'search_seconds': 1.25},
    'remarks': ['It may be <chance>.'],
}


def records(network, tasks, steps):
    return [
        {
            'network': network,
            'step': step,
            'training_loss': {task: 1 / step if step > 10 else None for task in tasks},
            'validation_error': {task: 100 / step for task in tasks},
            'total_validation_error': 100 * len(tasks) / step,
        }
        for step in range(10, steps + 1, 10)
    ]


def results_of(names, groups, **entries):
    """What results.json holds of a run with these groups, tuples of names."""
    errors = {task: 1.0 + n / 8 for n, task in enumerate(names)}
    together = {task: 1.5 * error for task, error in errors.items()}
    return {
        **RESULTS,
        'task_names': list(names),
        'groups': [
            {'tasks': list(group), 'serves': list(group), 'network': f'network_{n}'}
            for n, group in enumerate(groups)
        ],
        'test_error': errors,
        'total_test_error': sum(errors.values()),
        'baselines': {'mtl': {'test_error': together, 'total_test_error': sum(together.values())}},
        **entries,
    }


def all_records(results=RESULTS):
    lines = records('mtl', results['task_names'], 50)
    for n, group in enumerate(results['groups']):
        if group['network'] != 'mtl':
            lines += records(group['network'], group['tasks'], 40 + 20 * n)
    return lines


def make_run(path, results=RESULTS, matrix=None, **config):
    """Writes the files of a run.

    Args:
      path: its folder.
      results: what results.json is to hold.
      matrix: affinities `[N, T, T]`; None for noise.
      **config: entries of config.json.
    """
    names = results['task_names']
    size = len(names)
    history = np.random.default_rng(0).normal(size=(5, size, size)) if matrix is None else matrix
    summary = affinity.summary(
        affinity.AffinityStatistics(tuple(names), tuple(range(len(history))), tuple(history))
    )
    workdir.open_run(
        path,
        {'dataset': '<b>letters</b>', 'steps': 20, 'examples': {'train': 3}, **config},
    )
    affinity_files.write_affinity(path / 'affinity.npz', summary)
    storage.write_json(path / 'results.json', results)
    storage.write_records(path / 'metrics.jsonl', all_records(results))
    return path
