"""Measuring affinities over a whole run: what it costs, and whether the kinds agree.

    python -m experiments.benchmarks.measuring [--steps=1000 --seeds=3 --rounds=3]

Trains the network of the main job on all tasks of MultiDigits, without measuring and with each kind
of affinity at every tenth step (--affinity_every). Prints the time of each run over that of the run
without, the median over rounds in one process, compilation left out; and for each seed the rank
correlation of each kind with exact affinities over the pairs of different tasks, and whether the
two groups chosen are the same.
"""

import dataclasses
import time

import numpy as np
from absl import flags

from tag_jax import affinity, selection, training
from tag_jax.launchers import common, datasets, launch, networks

flags.DEFINE_integer('seeds', 3, 'Networks whose affinities are compared.')
flags.DEFINE_integer('rounds', 3, 'Times that each run is timed.')
flags.adopt_module_key_flags(common)

FLAGS = flags.FLAGS
WITHOUT = 'without measuring'


def main():
    dataset = datasets.load_dataset()
    problem = networks.make_problem(dataset)
    config = dataclasses.replace(common.training_config(dataset), patience=0)
    print_times(problem, dataset, config)
    print_agreement(problem, dataset, config)


def train(problem, dataset, config, kind, seed=0):
    """One network on all tasks, trained with measurements of a kind or without."""
    config = config.measuring(kind='exact' if kind == WITHOUT else kind)
    plan = training.NetworkPlan(
        'all', problem.task_names, seed, config.learning_rate, kind != WITHOUT
    )
    (network,) = training.train_networks(problem, dataset.train, dataset.validation, [plan], config)
    return network


def print_times(problem, dataset, config):
    kinds = (WITHOUT, *affinity.KINDS)
    seconds = {kind: [] for kind in kinds}
    for n in range(FLAGS.rounds + 1):
        for kind in kinds:
            began = time.perf_counter()
            train(problem, dataset, config, kind)
            if n:  # the first round compiles
                seconds[kind].append(time.perf_counter() - began)
    plain = np.array(seconds[WITHOUT])
    print(f'{config.steps} steps, measured every {config.affinity.every}; {WITHOUT} ', end='')
    print(f'{np.median(plain):.1f} s')
    for kind in affinity.KINDS:
        print(f'{kind:12} {np.median(np.array(seconds[kind]) / plain):6.2f}', flush=True)


def print_agreement(problem, dataset, config):
    pairs = ~np.eye(len(problem.task_names), dtype=bool)
    ranks = lambda mean: np.argsort(np.argsort(mean[pairs]))
    for seed in range(FLAGS.seeds):
        means = {
            kind: train(problem, dataset, config, kind, seed).affinities.mean
            for kind in affinity.KINDS
        }
        groups = {
            k: selection.select_groups(mean, common.budget()).groups for k, mean in means.items()
        }
        for kind in affinity.KINDS[1:]:
            correlation = np.corrcoef(ranks(means['exact']), ranks(means[kind]))[0, 1]
            same = 'the same groups' if groups[kind] == groups['exact'] else 'other groups'
            print(f'seed {seed}: {kind:12} rank correlation {correlation:.3f}, {same}', flush=True)


if __name__ == '__main__':
    launch.launch(main)
