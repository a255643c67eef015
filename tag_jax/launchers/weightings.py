"""Task weightings as flags name them."""

import functools
import math

from tag_jax import weighting
from tag_jax.launchers.launch import choose

# Named once each: what is compiled is kept by their identity. An epoch of dwa is 100 steps, and the
# norm of nash_mtl and fairgrad is limited to 1, as in their authors' code.
WEIGHTINGS = {
    'equal': weighting.equal,
    'mgda_ub': weighting.mgda_ub,
    'mgda_ub_loss+': functools.partial(weighting.mgda_ub, 'loss+'),
    'mgda': weighting.mgda,
    'uncertainty': weighting.uncertainty,
    'gradnorm': weighting.gradnorm,
    'pcgrad': weighting.pcgrad,
    'cagrad': weighting.cagrad,
    'upgrad': weighting.upgrad,
    'imtl_g': weighting.imtl_g,
    'imtl_g_projections': functools.partial(weighting.imtl_g, 'projections'),
    'aligned_mtl': weighting.aligned_mtl,
    'nash_mtl': functools.partial(weighting.nash_mtl, max_norm=1.0),
    'fairgrad': functools.partial(weighting.fairgrad, max_norm=1.0),
    'db_mtl': weighting.db_mtl,
    'dwa': functools.partial(weighting.dwa, 100),
    'rlw': weighting.rlw,
    'famo': weighting.famo,
    'stch': weighting.stch,
}
# What a number behind the name stands for, as in gradnorm:0.5.
NUMBERS = {'gradnorm': 'alpha', 'fairgrad': 'alpha', 'db_mtl': 'beta', 'stch': 'mu'}
NUMBERED = (
    'gradnorm:0.5 for another alpha than 1.5; likewise the alpha of fairgrad, beta of '
    'db_mtl and mu of stch'
)
_MEAN = functools.partial(weighting.equal, mean=True)


def make(name, mean=False):
    """The function that makes the transform of a weighting, as TrainingConfig takes it.

    Args:
      name: of WEIGHTINGS, or with a number behind it, as gradnorm:0.5.
      mean: whether equal weights make the mean of the losses, and not their sum.
    """
    base, _, number = name.partition(':')
    found = choose('weighting', base, WEIGHTINGS)
    if number:
        return _numbered(name)
    return _MEAN if name == 'equal' and mean else found


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
    make = functools.partial(WEIGHTINGS[base], **{NUMBERS[base]: number})
    try:
        make()
    except ValueError as error:
        raise ValueError(f'there is no weighting {name!r}: {error}') from error
    return make
