"""Options of methods as JSON types."""

import numbers
from collections.abc import Mapping


def given_options(**options):
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def check_count(name, value):
    """Raises ValueError unless a number of things is one."""
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f'{name} must be an integer of at least 1, not {value!r}')


def cost_at(method, option, costs, budget):
    """The cost of a network on another encoder: 1 where none is asked for, or that of a budget."""
    if costs is None:
        return 1.0
    if not isinstance(costs, Mapping):
        return costs
    if budget not in costs:
        raise ValueError(f'{method} has no {option} encoder for the budget {budget:g}: give one')
    return costs[budget]


def costs_given(**options):
    """Options that are costs, or costs by budget, as JSON types; those of None are left out."""
    return {
        name: {str(budget): cost for budget, cost in costs.items()}
        if isinstance(costs, Mapping)
        else costs
        for name, costs in given_options(**options).items()
    }
