"""Methods as flags name them: `--method=subsets:count=30`."""

import inspect
import json

import tag_jax

# Functions of `grouping`.
METHODS = (
    *(
        'tag',
        'cosine_similarity',
        'spectral',
        'verify',
        'recommended',
        'linearised',
        'hoa',
        'esa',
        'subsets',
    ),
    *('exhaustive', 'pessimal', 'random', 'random_even', 'all_but_one', 'single_task'),
    'all_in_one',
)
# Searches that train single tasks on a smaller encoder as well, where there is one.
WITH_SMALLER = ('hoa', 'esa', 'exhaustive', 'pessimal')
# Those that try all tasks on an encoder that costs the budget.
WITH_WIDER = ('recommended',)


def make(text, smaller=None, wider=None):
    """The method that a flag names.

    Args:
      text: a name, with options behind it: 'subsets:count=30:fraction=0.2'.
      smaller: the cost of a smaller encoder, which searches that can use it take; or None.
      wider: the cost of a wider one, likewise, or `{budget: cost}`.

    Raises:
      ValueError: if there is no such method or option, or a value is out of its range.
    """
    name, *parts = text.split(':')
    if name not in METHODS:
        raise ValueError(f'there is no method called {name!r}: choose {" or ".join(METHODS)}')
    function = getattr(tag_jax.grouping, name)
    taken = inspect.signature(function).parameters
    options = {}
    for part in parts:
        option, equals, value = part.partition('=')
        if option not in taken or not equals:
            named = ' or '.join(f'{name}:{one}=...' for one in taken) or f'{name} alone'
            raise ValueError(f'{name} has no option {part!r}: give {named}')
        options[option] = (
            make(value) if option == 'base' else _value(text, value, taken[option].default)
        )
    if smaller is not None and name in WITH_SMALLER:
        options.setdefault('smaller', smaller)
    if wider is not None and name in WITH_WIDER:
        options.setdefault('wider', wider)
    return function(**options)


def _value(text, value, usual):
    """The value of an option: a number, or true or false where that is what it usually is."""
    if isinstance(usual, bool):
        if value not in ('true', 'false'):
            raise ValueError(f'--method={text} needs true or false, not {value!r}')
        return value == 'true'
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise ValueError(f'--method={text} needs a number, not {value!r}')
    return found
