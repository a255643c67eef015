"""Trains many networks of one problem at once, which differ in tasks, seed and learning rate.

`train_networks` trains `NetworkPlan`s by a `TrainingConfig`, and returns each `TrainedNetwork` at
its best evaluation.
"""

from tag_jax.training.bars import doing, steps_bar
from tag_jax.training.batches import batch_rows
from tag_jax.training.capacity import num_slots, num_workers, slot_bytes
from tag_jax.training.checks import check_devices, check_optimizer, still_parameters
from tag_jax.training.config import (
    EACH_TASK,
    MEASURE,
    MOST_SEEDS,
    TOTAL,
    NetworkPlan,
    TrainedNetwork,
    TrainingConfig,
    check_seeds,
)
from tag_jax.training.kept import evaluate, kept, validation_scores
from tag_jax.training.measured import MeasuredSlots, measured_slots, worth_measuring
from tag_jax.training.measurement import Measurement
from tag_jax.training.progress import Record
from tag_jax.training.train import train_networks

__all__ = [
    'EACH_TASK',
    'MEASURE',
    'MOST_SEEDS',
    'TOTAL',
    'MeasuredSlots',
    'Measurement',
    'NetworkPlan',
    'Record',
    'TrainedNetwork',
    'TrainingConfig',
    'batch_rows',
    'check_devices',
    'check_optimizer',
    'check_seeds',
    'doing',
    'evaluate',
    'kept',
    'measured_slots',
    'num_slots',
    'num_workers',
    'slot_bytes',
    'steps_bar',
    'still_parameters',
    'train_networks',
    'validation_scores',
    'worth_measuring',
]
