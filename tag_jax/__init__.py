"""Which tasks should train together?

Inter-task affinity and task grouping (Fifty et al. 2021) for Flax models.

Submodules are imported when they are first used, so `import tag_jax.selection` needs NumPy only.
"""

import importlib

__version__ = '0.1.0'

_SUBMODULES = (
    'affinity',
    'cells',
    'cluster',
    'comparison',
    'data',
    'evaluation',
    'examples',
    'gradients',
    'grouping',
    'models',
    'multi_objective',
    'numbers',
    'objectives',
    'parallel',
    'problem',
    'report',
    'runs',
    'scalarization',
    'selection',
    'sharding',
    'studies',
    'tables',
    'training',
    'weighting',
)


def __getattr__(name):
    if name in _SUBMODULES:
        return importlib.import_module(f'{__name__}.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted([*globals(), *_SUBMODULES])
