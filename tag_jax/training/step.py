"""One network on the device: a training step, and its affinities before it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tag_jax import affinity, gradients
from tag_jax.problem import Batch, heads_apart, map_heads, split_frozen, with_frozen
from tag_jax.training.program import Program, Slot


def take(
    program: Program, frozen: Any, slot: Slot, batch: Batch
) -> tuple[Slot, jax.Array, jax.Array, jax.Array]:
    """Takes one training step of one network.

    Args:
      program: a `Program`.
      frozen: the frozen parameters of all networks; None if there are none.
      slot: the network.
      batch: a `Batch` of B examples.

    Returns:
      The network after it, losses `[T]` before it, and which tasks were active `[T]` and what was
      finite `[T + 1]`, as `Outputs` have them.
    """
    task_gradients, model_state = gradients.task_gradients(
        program.problem,
        slot.params,
        with_frozen(slot.model_state, frozen),
        batch,
        jax.random.fold_in(slot.key, slot.step),
        task_mask=slot.task_mask,
    )
    model_state, _ = split_frozen(model_state)
    losses, active = task_gradients.losses, task_gradients.active
    by_task = _finite_tasks(task_gradients)
    if program.if_not_finite == 'drop':
        task_gradients = task_gradients.mask(by_task)
    updates, opt_state = program.transform(slot.learning_rate).update(
        task_gradients, slot.opt_state, slot.params, value=jnp.sum(task_gradients.losses)
    )
    params = optax.apply_updates(slot.params, updates)
    shared = jnp.isfinite(gradients.sum_of_entries((updates['shared'], model_state['shared'])))
    trained = slot.task_mask
    params = _trained_heads(program, trained, params, slot.params)
    if program.if_not_finite != 'stop':
        trained &= by_task
    model_state = _trained_heads(program, trained, model_state, slot.model_state)
    moved = (params, model_state, opt_state)
    if program.if_not_finite != 'stop':
        stands = (slot.params, slot.model_state, slot.opt_state)
        taken = shared & (by_task.all() | (program.if_not_finite == 'drop'))
        moved = jax.tree.map(functools.partial(jnp.where, taken), moved, stands)
    params, model_state, opt_state = moved
    stepped = slot._replace(
        step=slot.step + 1, params=params, model_state=model_state, opt_state=opt_state
    )
    return stepped, losses, active, jnp.append(by_task, shared)


def measure(
    program: Program,
    frozen: Any,
    slot: Slot,
    batch: Batch,
    validation_batch: Batch | None = None,
    sources: jax.Array | None = None,
) -> jax.Array:
    """The inter-task affinities of one network before its step.

    Args:
      program: a `Program` that measures.
      frozen: the frozen parameters of all networks; None if there are none.
      slot: the network.
      batch: a `Batch` of B examples, on which lookahead steps are taken.
      validation_batch: where losses are compared; None for the same examples.
      sources: `[S, T]`, see `affinity.inter_task_affinity`; None for each task.

    Returns:
      `[T, T]`, source task first; `[S, T]` of sources.
    """
    measurement, lookahead = program.measurement, None
    params, model_state = slot.params, with_frozen(slot.model_state, frozen)
    if measurement.step == 'optimizer':
        params = heads_apart(params)
        losses, active = gradients.task_losses(
            program.problem,
            params,
            model_state,
            batch,
            jax.random.fold_in(slot.key, slot.step),
        )
        # The state of a chain: that of the weighting, that of the optimizer.
        lookahead = affinity.optimizer_step(
            program.optimizer(slot.learning_rate),
            heads_apart(slot.opt_state[1]),
            params,
            value=jnp.sum(jnp.where(active & slot.task_mask, losses, 0)),
        )
    return affinity.inter_task_affinity(
        program.problem,
        params,
        model_state,
        _first(batch, measurement.examples),
        slot.learning_rate,
        measurement.kind,
        key=jax.random.fold_in(slot.key, slot.step),
        lookahead=lookahead,
        eval_batch=_first(validation_batch, measurement.examples),
        task_mask=slot.task_mask,
        sources=sources,
        batching='unroll' if program.batching == 'unroll' else None,
    )


def _finite_tasks(task_gradients):
    """Whether the loss and the gradients of each task are finite, bool `[T]`; true where inactive.

    Sums tell it, at the cost of an addition for each number. A sum that is too large for its dtype
    counts as not finite: such gradients explode.
    """
    by_task = jax.vmap(gradients.sum_of_entries)(task_gradients.representation)
    sums = task_gradients.losses + task_gradients.head_sums + by_task
    return jnp.isfinite(sums) | ~task_gradients.active


def _first(batch, examples):
    return batch if batch is None else jax.tree.map(lambda x: x[:examples], batch)


def _trained_heads(program, task_mask, new, old):
    """`new`, with the heads of tasks outside the mask as they were (weight decay moves them)."""
    names = program.problem.task_names
    return {**new, 'heads': map_heads(jnp.where, task_mask, names, new['heads'], old['heads'])}
