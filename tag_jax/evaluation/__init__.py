"""How well networks do on a split, and whether a split can be used at all."""

from tag_jax.evaluation.answers import encoder_cost, in_batches, predictor
from tag_jax.evaluation.checks import check_split
from tag_jax.evaluation.constant_loss import constant_loss, constant_losses
from tag_jax.evaluation.criteria import CRITERIA, RELATIVE_LOSS
from tag_jax.evaluation.prepared import PreparedSplit, prepare
from tag_jax.evaluation.resampling import blocks_of, resampled
from tag_jax.evaluation.scores import evaluate, finished, scores, sums_of_batches

__all__ = [
    'CRITERIA',
    'RELATIVE_LOSS',
    'PreparedSplit',
    'blocks_of',
    'check_split',
    'constant_loss',
    'constant_losses',
    'encoder_cost',
    'evaluate',
    'finished',
    'in_batches',
    'predictor',
    'prepare',
    'resampled',
    'scores',
    'sums_of_batches',
]
