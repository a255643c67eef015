"""Task weightings as flags name them."""

import functools
import math

import tag_jax
from tag_jax.launchers.launch import choose

# Functions without arguments that give what makes each. An epoch of dwa is 100 steps, and the
# norm of nash_mtl and fairgrad is limited to 1, as in their authors' code.
WEIGHTINGS = {
    'equal': lambda: tag_jax.weighting.equal,
    'mgda_ub': lambda: tag_jax.weighting.mgda_ub,
    'mgda_ub_loss+': lambda: functools.partial(tag_jax.weighting.mgda_ub, 'loss+'),
    'mgda': lambda: tag_jax.weighting.mgda,
    'uncertainty': lambda: tag_jax.weighting.uncertainty,
    'gradnorm': lambda: tag_jax.weighting.gradnorm,
    'pcgrad': lambda: tag_jax.weighting.pcgrad,
    'cagrad': lambda: tag_jax.weighting.cagrad,
    'upgrad': lambda: tag_jax.weighting.upgrad,
    'imtl_g': lambda: tag_jax.weighting.imtl_g,
    'imtl_g_projections': lambda: functools.partial(tag_jax.weighting.imtl_g, 'projections'),
    'aligned_mtl': lambda: tag_jax.weighting.aligned_mtl,
    'nash_mtl': lambda: functools.partial(tag_jax.weighting.nash_mtl, max_norm=1.0),
    'fairgrad': lambda: functools.partial(tag_jax.weighting.fairgrad, max_norm=1.0),
    'db_mtl': lambda: tag_jax.weighting.db_mtl,
    'dwa': lambda: functools.partial(tag_jax.weighting.dwa, 100),
    'rlw': lambda: tag_jax.weighting.rlw,
    'famo': lambda: tag_jax.weighting.famo,
    'stch': lambda: tag_jax.weighting.stch,
}
# What a number behind the name stands for, as in gradnorm:0.5.
NUMBERS = {'gradnorm': 'alpha', 'fairgrad': 'alpha', 'db_mtl': 'beta', 'stch': 'mu'}
NUMBERED = (
    'gradnorm:0.5 for another alpha than 1.5; likewise the alpha of fairgrad, beta of '
    'db_mtl and mu of stch'
)


def make(name, mean=False):
    """The function that makes the transform of a weighting, as TrainingConfig takes it.

    Args:
      name: of WEIGHTINGS, or with a number behind it, as gradnorm:0.5.
      mean: whether equal weights make the mean of the losses, and not their sum.
    """
    base, _, number = name.partition(':')
    choose('weighting', base, WEIGHTINGS)
    if number:
        return _numbered(name)
    return _mean() if name == 'equal' and mean else _usual(name)


# One object for each name: what is compiled is kept by their identity.


@functools.cache
def _usual(name):
    return WEIGHTINGS[name]()


@functools.cache
def _mean():
    return functools.partial(_usual('equal'), mean=True)


@functools.cache
def _numbered(name):
    """The weighting with the number that follows its name."""
    base, _, text = name.partition(':')
    if base not in NUMBERS:
        raise ValueError(
            f'there is no weighting {name!r}: only {", ".join(NUMBERS)} take a number, as '
            'gradnorm:0.5'
        )
    try:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        raise ValueError(
            f'the {NUMBERS[base]} of {name!r} is no number: write {base}:0.5'
        ) from None
    make = functools.partial(_usual(base), **{NUMBERS[base]: number})
    try:
        make()
    except ValueError as error:
        raise ValueError(f'there is no weighting {name!r}: {error}') from error
    return make
