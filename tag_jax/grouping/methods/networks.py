"""Methods that train networks for sets of tasks, and select by their validation scores."""

from tag_jax import selection
from tag_jax.grouping.linear_estimates import BASES, DIRECTIONS, RIDGE
from tag_jax.grouping.method import Method, Proposal, Stage, standard_stages, whole_networks
from tag_jax.grouping.methods.options import check_count, given_options
from tag_jax.grouping.searcher import candidates_of
from tag_jax.grouping.task_sets import all_sets, random_sets
from tag_jax.grouping.trainer import check_fraction

# Random sets of tasks, and the share of the steps that their networks train.
NUM_SUBSETS, HALF = 10, 0.5
# The share of the steps that other brief networks train.
BRIEF = 0.1
# The share of the steps that `esa` trains.
EARLY = 0.05


def hoa(smaller: float | None = None) -> Method:
    """Higher order approximation (Standley et al. 2020, Section 3.3.2).

    Trains every single task and every pair, predicts all larger groups from the pairs
    (`selection.higher_order_approximation`), and selects by validation errors.

    Args:
      smaller: the cost of a cheaper encoder, one of `sizes=`, on which every single task is trained
        as well (Section 4); None for none.

    Raises:
      ValueError: when the method begins, if there are too many tasks.
    """

    def sets(names, seed):
        del seed
        selection.all_groups(len(names), min_size=3)  # Refuses too many tasks.
        return all_sets(names, (1, 2))

    return _by_networks('hoa', sets, 1.0, selection.higher_order_approximation, smaller)


def esa(fraction: float = EARLY, smaller: float | None = None) -> Method:
    """Early stopping approximation (Standley et al. 2020, Section 3.3.1).

    Trains a network for every set of tasks for a fraction of the steps, and selects by its
    validation errors.

    Args:
      fraction: of the steps that the network for all tasks takes. The paper's networks see a fifth
        of the data once, where training takes four to eight passes: "about 20x" less, a twentieth.
      smaller: see `hoa`.

    Raises:
      ValueError: if the fraction is not above 0 and at most 1.
    """
    check_fraction(fraction)
    options = {} if fraction == EARLY else {'fraction': fraction}
    return _by_networks('esa', _every_set, fraction, None, smaller, options)


def subsets(count: int = NUM_SUBSETS, fraction: float = HALF, keep: bool = False) -> Method:
    """Trains brief networks for random sets of tasks, and selects by a model of their errors.

    The model (`selection.fit_additive_model`) knows how errors grow with the size of a group and
    who helps whom, and predicts all groups, of any number of tasks. The search costs `count` x
    `fraction` networks, five by default, but for steps that are rounded to an evaluation.

    Args:
      count: how many sets, drawn by the seed of the config, the set of all tasks among them; all of
        them if there are no more.
      fraction: of the steps that the network for all tasks takes.
      keep: whether to choose among the networks of the search, by their own scores and not those of
        the model; the chosen ones then go on to the end, and are the networks of the result.

    Raises:
      ValueError: if there is no set, the fraction is not above 0 and at most 1, or keep is no bool.
    """
    check_fraction(fraction)
    check_count('count', count)
    if not isinstance(keep, bool):
        raise ValueError(f'keep must be True or False, not {keep!r}')
    options = {} if count == NUM_SUBSETS else {'count': count}
    options |= {} if fraction == HALF else {'fraction': fraction}
    options |= {'keep': True} if keep else {}

    def search(searcher):
        sets = random_sets(searcher.task_names, count, searcher.seed)
        return searcher.networks(sets, fraction)

    def propose(searcher, budget):
        networks = search(searcher)
        candidates = candidates_of(networks, searcher.task_names)
        if not keep:
            model = selection.fit_additive_model(candidates)
            chosen = selection.select_additive(model, whole_networks(budget), seed=searcher.seed)
            return Proposal(chosen.groups, chosen.serves, selection=chosen)
        chosen = selection.select_networks(candidates, budget)
        keys = tuple(networks[n].key for n in chosen.networks)
        # Brief scores say which networks are good, and whole ones which of them serves a task.
        return Proposal(chosen.groups, selection=chosen, networks=keys)

    def stages(task_names, budget, config):
        sets = random_sets(task_names, count, config.seed)
        steps = config.steps if fraction == 1 else max(1, round(fraction * config.steps))
        return standard_stages(budget, config, Stage('the search', len(sets), steps))

    def predict(searcher):
        all_groups = selection.all_groups(len(searcher.task_names))  # Refuses too many tasks.
        candidates = candidates_of(search(searcher), searcher.task_names)
        return selection.fit_additive_model(candidates).candidates(all_groups)

    return Method('subsets', propose, stages, predict, options)


def linearised(
    fraction: float = BRIEF, bases: int = BASES, directions: int = DIRECTIONS, ridge: float = RIDGE
) -> Method:
    """Estimates the networks of all sets of tasks from a few brief ones for all tasks.

    Close to its parameters a network is linear in them, and the loss that training on a set of
    tasks would reach takes milliseconds (`Searcher.estimates`; after Li et al. 2024, "Scalable
    Fine-tuning from Multiple Data Sources: A First-Order Approximation Approach"). It needs splits
    in memory, and one answer an example.

    Args:
      fraction: of the steps that the network for all tasks takes.
      bases: how many brief networks.
      directions: random ones of the encoder that take part.
      ridge: what is added to curvatures, in units of their mean.

    Raises:
      ValueError: if a number is out of its range; when the method begins, if the problem does not
        allow it.
    """
    check_fraction(fraction)
    check_count('bases', bases)
    check_count('directions', directions)
    if not ridge > 0:
        raise ValueError(f'ridge must be positive, not {ridge}')
    given = {'fraction': fraction, 'bases': bases, 'directions': directions, 'ridge': ridge}
    usual = {'fraction': BRIEF, 'bases': BASES, 'directions': DIRECTIONS, 'ridge': RIDGE}
    options = {name: value for name, value in given.items() if value != usual[name]}

    def predict(searcher):
        return searcher.estimates('linearised', **given)

    def propose(searcher, budget):
        chosen = selection.select_networks(predict(searcher), budget)
        return Proposal(chosen.groups, chosen.serves, selection=chosen)

    def stages(task_names, budget, config):
        all_sets(task_names)  # Refuses too many tasks.
        steps = max(1, round(fraction * config.steps))
        return standard_stages(budget, config, Stage('brief networks for all', bases, steps))

    return Method('linearised', propose, stages, predict, options)


def exhaustive(smaller: float | None = None) -> Method:
    """Trains a network for every set of tasks, and selects by validation errors.

    ("Optimal" in Standley et al. 2020, Section 5. One noisy run of each network picks among very
    many, so it may do worse on test than its name says.)

    Args:
      smaller: see `hoa`.
    """
    return _by_networks('exhaustive', _every_set, 1.0, None, smaller)._replace(predict=None)


def pessimal(smaller: float | None = None) -> Method:
    """Trains a network for every set of tasks, and takes the worst groups by validation errors.

    ("Pessimal" in Standley et al. 2020, Section 5.)

    Args:
      smaller: see `hoa`.
    """
    found = _by_networks('pessimal', _every_set, 1.0, None, smaller, select=selection.pessimal)
    return found._replace(predict=None)


def _by_networks(name, sets, fraction, model, smaller, options=None, select=None):
    """A method that selects among networks that it trains."""
    select = select or selection.select_networks
    options = (options or {}) | given_options(smaller=smaller)

    def search(searcher):
        networks = searcher.networks(sets(searcher.task_names, searcher.seed), fraction)
        if smaller is not None:
            alone = [(task,) for task in searcher.task_names]
            networks += searcher.networks(alone, fraction, smaller)
        found = candidates_of(networks, searcher.task_names)
        return networks, found if model is None else model(found)

    def propose(searcher, budget):
        networks, candidates = search(searcher)
        chosen = select(candidates, budget)
        keys = None
        if fraction == 1 and all(n < len(networks) for n in chosen.networks):
            keys = tuple(networks[n].key for n in chosen.networks)
        costs = tuple(candidates.costs[list(chosen.networks)].tolist())
        return Proposal(chosen.groups, chosen.serves, costs=costs, selection=chosen, networks=keys)

    def stages(task_names, budget, config):
        steps = config.steps if fraction == 1 else max(1, round(fraction * config.steps))
        found = [Stage('the search', len(sets(task_names, config.seed)), steps)]
        if smaller is not None:
            singles = 'single tasks on the smaller encoder'
            found.append(Stage(singles, len(task_names), steps, cost=smaller))
        return standard_stages(budget, config, *found)

    return Method(name, propose, stages, lambda searcher: search(searcher)[1], options)


def _every_set(names, seed):
    del seed
    return all_sets(names)
