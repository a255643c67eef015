"""How fast selection is, and what it proves, beside a MILP in HiGHS.

    python -m experiments.benchmarks.selection

prints the median time of every instance over some repeats, in one process, with the objective, the
certified gap and the memory it took; where HiGHS is a match, its time beside it. A few minutes.
`pip install -e '.[bench]'` brings SciPy, whose HiGHS is used. Instances are drawn with NumPy's
`default_rng(seed)`:

- planted affinities: tasks in blocks, mean 1 within a block and -0.5 across, normal noise;
- noise: standard normal affinities;
- Standley et al. 2020: the 36 networks of setting 1, and 253 over eight tasks made from them: three
  times over a task is added, with every candidate from the sixth on appearing again with a value
  for the new task drawn from those of a random task, and all its losses 5 % higher;
- lists: 3,000 networks of 2 to 10 out of 27 tasks, losses log-normal, costs 1, or 0.5 for half.
"""

import itertools
import pathlib
import statistics
import time
import tracemalloc

import numpy as np
from absl import flags
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix

from tag_jax import selection
from tag_jax.launchers import launch

flags.DEFINE_integer('seeds', 3, 'Instances of each kind.')
flags.DEFINE_integer('repeats', 3, 'Repeats of a time below a second.')
flags.DEFINE_float('highs_seconds', 60, 'Time limit of HiGHS; 0 to leave it out.')
flags.DEFINE_list(
    'only', '', 'Kinds to run: exact, planted, hard, standley, lists; all by default.'
)

FLAGS = flags.FLAGS

SETTING_1 = pathlib.Path(launch.__file__).parent / 'examples' / 'standley2020_setting1.csv'


def main():
    kinds = {
        'exact': exact,
        'planted': planted_blocks,
        'hard': hard,
        'standley': standley,
        'lists': lists,
    }
    chosen = FLAGS.only or list(kinds)
    instances = [launch.choose('kind', name, kinds) for name in chosen]
    print(f'{"instance":44} {"seconds":>8} {"objective":>11} {"gap":>8} {"MB":>6}  HiGHS')
    for kind in instances:
        kind()


def exact():
    """Affinities of so few tasks that the optimum is found over all sets of tasks."""
    for num_tasks, budget, against in (
        (9, 4, True),
        (12, 3, True),
        (15, 4, False),
        (20, 2, False),
        (20, 3, False),
    ):
        for seed in range(FLAGS.seeds):
            affinity = np.random.default_rng(seed).normal(size=(num_tasks, num_tasks))
            rival = None
            if against and FLAGS.highs_seconds:
                rival = highs(*group_problem(affinity), budget)
            report(
                f'{num_tasks} tasks, {budget} groups, noise, seed {seed}',
                lambda affinity=affinity, budget=budget: selection.select_groups(affinity, budget),
                rival,
            )


def planted_blocks():
    """Forty tasks in as many blocks as groups."""
    for blocks, noise in itertools.product((2, 4, 6, 8), (0.15, 0.5, 0.75)):
        for seed in range(FLAGS.seeds):
            affinity = planted(blocks, noise, seed)
            report(
                f'40 tasks, {blocks} blocks and groups, {noise}, seed {seed}',
                lambda affinity=affinity, blocks=blocks: selection.select_groups(affinity, blocks),
            )


def hard():
    """Forty tasks without a structure that fits the number of groups."""
    for seed in range(FLAGS.seeds):
        for label, affinity, budget in (
            ('8 blocks, 4 groups, 0.5', planted(8, 0.5, seed), 4),
            ('4 blocks, 8 groups, 0.5', planted(4, 0.5, seed), 8),
            ('8 blocks and groups, 1.0', planted(8, 1.0, seed), 8),
            ('noise, 4 groups', np.random.default_rng(seed).normal(size=(40, 40)), 4),
        ):
            report(
                f'40 tasks, {label}, seed {seed}',
                lambda affinity=affinity, budget=budget: selection.select_groups(affinity, budget),
            )


def standley():
    """The published networks, and the larger instance that the authors' generator makes of them."""
    candidates = selection.Candidates.from_csv(SETTING_1)
    budgets = [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    report(
        '36 networks, 5 tasks, nine budgets together',
        lambda: selection.select_networks(candidates, budgets)[-1],
    )
    report(
        '36 networks, 5 tasks, ten best at budget 3',
        lambda: selection.select_networks(candidates, 3, num_solutions=10)[0],
    )
    for seed in range(FLAGS.seeds):
        larger = grown(candidates, seed)
        rival = highs(*network_problem(larger), 4) if FLAGS.highs_seconds else None
        report(
            f'{len(larger)} networks, 8 tasks, budget 4, seed {seed}',
            lambda larger=larger: selection.select_networks(larger, 4),
            rival,
        )


def lists():
    """Thousands of networks over 27 tasks."""
    for halves, seed in itertools.product((False, True), range(FLAGS.seeds)):
        candidates = random_list(seed, halves)
        for budget in (3, 5, 10):
            rival = None
            if seed == 0 and FLAGS.highs_seconds:
                rival = highs(*network_problem(candidates), budget)
            report(
                f'3000 networks, {"costs .5 and 1" if halves else "costs 1"}, budget {budget}, '
                f'seed {seed}',
                lambda c=candidates, budget=budget: selection.select_networks(c, budget),
                rival,
            )


def report(label, solve, rival=None):
    """Times a solver and prints a line."""
    seconds = []
    while len(seconds) < FLAGS.repeats and (not seconds or seconds[-1] < 1):
        began = time.perf_counter()
        selected = solve()
        seconds.append(time.perf_counter() - began)
    tracemalloc.start()
    solve()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gap = abs(selected.bound - selected.objective) / max(abs(selected.objective), 1e-12)
    beside = ''
    if rival:
        value, took = rival
        found = 'nothing found' if value is None else f'{value:.4f}'
        beside = f'{took:.2f} s, {found}, {took / statistics.median(seconds):.0f} x the time'
    print(
        f'{label:44} {statistics.median(seconds):8.3f} {selected.objective:11.4f} {gap:8.2%} '
        f'{peak / 1e6:6.0f}  {beside}',
        flush=True,
    )


def planted(blocks, noise, seed, num_tasks=40):
    """Affinities of tasks in blocks."""
    rng = np.random.default_rng(seed)
    block = np.arange(num_tasks) % blocks
    mean = np.where(block[:, None] == block, 1.0, -0.5)
    return mean + rng.normal(0, noise, (num_tasks, num_tasks))


def grown(candidates, seed, times=3):
    """Candidates over more tasks, each made from the others."""
    rng = np.random.default_rng(seed)
    scores, costs = candidates.scores, candidates.costs
    names = list(candidates.task_names)
    for n in range(times):
        again = scores[5:]
        like = again[:, rng.integers(scores.shape[1])]
        drawn = rng.choice(like[~np.isnan(like)], len(again))
        new = np.concatenate([again, drawn[:, None]], axis=1) * 1.05
        old = np.concatenate([scores, np.full((len(scores), 1), np.nan)], axis=1)
        scores, costs = np.concatenate([old, new]), np.concatenate([costs, costs[5:]])
        names.append(f'task {n}')
    return selection.Candidates(~np.isnan(scores), scores, costs, tuple(names))


def random_list(seed, halves, size=3000, num_tasks=27):
    """Networks of random sets of tasks."""
    rng = np.random.default_rng(seed)
    members = np.zeros((size, num_tasks), bool)
    for row, count in zip(members, rng.integers(2, 11, size), strict=True):
        row[rng.choice(num_tasks, count, replace=False)] = True
    baseline = np.exp(rng.normal(0, 0.3, num_tasks))
    scores = baseline * np.exp(rng.normal(0, 0.25, members.shape))
    costs = np.ones(size)
    if halves:
        costs[rng.permutation(size)[: size // 2]] = 0.5
    names = tuple(f'task {n}' for n in range(num_tasks))
    return selection.Candidates(members, np.where(members, scores, np.nan), costs, names)


def group_problem(affinity):
    """Gains and costs of all groups of two tasks or more."""
    candidates = selection.affinity_candidates(affinity)
    return np.where(candidates.members, candidates.scores, -np.inf), candidates.costs


def network_problem(candidates):
    """Gains and costs of candidates with losses."""
    return np.where(np.isnan(candidates.scores), -np.inf, -candidates.scores), candidates.costs


def highs(gains, costs, budget):
    """The best total gain according to HiGHS within its time, or None; and the seconds it took."""
    size, num_tasks = gains.shape
    network, task = np.nonzero(np.isfinite(gains))
    served = np.arange(len(network))
    columns = size + len(network)
    once = coo_matrix((np.ones(len(task)), (task, size + served)), (num_tasks, columns))
    opened = coo_matrix(
        (
            np.concatenate([np.ones(len(served)), -np.ones(len(served))]),
            (np.tile(served, 2), np.concatenate([size + served, network])),
        ),
        (len(served), columns),
    )
    paid = np.concatenate([costs, np.zeros(len(served))])[None]
    began = time.perf_counter()
    found = milp(
        np.concatenate([np.zeros(size), -gains[network, task]]),
        integrality=np.concatenate([np.ones(size), np.zeros(len(served))]),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(once.tocsr(), 1, 1),
            LinearConstraint(opened.tocsr(), -np.inf, 0),
            LinearConstraint(paid, -np.inf, budget + 1e-9),
        ],
        options={'time_limit': FLAGS.highs_seconds, 'mip_rel_gap': 0},
    )
    seconds = time.perf_counter() - began
    return (None if found.x is None else abs(found.fun)), seconds


if __name__ == '__main__':
    launch.launch(main)
