"""How well networks do on a split, and whether a split can be used at all."""

from tag_jax.evaluation.answers import encoder_cost, in_batches, predictor
from tag_jax.evaluation.checks import check_split, check_splits
from tag_jax.evaluation.constant_loss import constant_loss, constant_losses
from tag_jax.evaluation.criteria import (
    CRITERIA,
    ERROR,
    LOSS,
    RELATIVE_LOSS,
    judged,
    kept_by,
    summands,
)
from tag_jax.evaluation.prepared import PreparedSplit, left_out, prepare
from tag_jax.evaluation.resampling import blocks_of, resampled
from tag_jax.evaluation.scores import evaluate, finished, scores, sums_of_batches

__all__ = [
    'CRITERIA',
    'ERROR',
    'LOSS',
    'RELATIVE_LOSS',
    'PreparedSplit',
    'blocks_of',
    'check_split',
    'check_splits',
    'constant_loss',
    'constant_losses',
    'encoder_cost',
    'evaluate',
    'finished',
    'in_batches',
    'judged',
    'kept_by',
    'left_out',
    'predictor',
    'prepare',
    'resampled',
    'scores',
    'summands',
    'sums_of_batches',
]
