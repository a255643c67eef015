"""Names that functions and modules have for their mode and their key."""

import inspect
from collections.abc import Callable

# The mode or the key under each of the names, from `(train, key)`.
MODES = {
    **dict.fromkeys(('train', 'training', 'is_training', 'is_train'), lambda train, key: train),
    **dict.fromkeys(('deterministic', 'eval'), lambda train, key: not train),
    **dict.fromkeys(
        ('key', 'rng', 'rng_key', 'dropout_rng', 'dropout_key'), lambda train, key: key
    ),
}


def mode_arguments(call: Callable) -> Callable[[bool], dict[str, bool]]:
    """`train -> keyword arguments` for a `__call__` that names train= or deterministic=.

    Args:
      call: the `__call__` of a module.

    Raises:
      ValueError: if it waits for its mode under a name that modules are not told it by.
    """
    names = inspect.signature(call).parameters
    if 'train' in names:
        return lambda train: {'train': train}
    if 'deterministic' in names:
        return lambda train: {'deterministic': not train}
    for name in ('training', 'is_training', 'is_train'):
        if name in names:
            raise ValueError(
                f'a __call__ takes {name!r}, which is never passed: modules are told their mode by '
                "'train' or 'deterministic', so name it one of these"
            )
    return lambda train: {}
