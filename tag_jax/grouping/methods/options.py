"""Options of methods as JSON types."""

import numbers


def given_options(**options):
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def check_count(name, value):
    """Raises ValueError unless a number of things is one."""
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f'{name} must be an integer of at least 1, not {value!r}')
