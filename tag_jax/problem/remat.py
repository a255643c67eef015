"""Encoders that are computed again in the backward pass, and not remembered (`jax.checkpoint`).

A checkpoint around a whole encoder saves nothing: its backward pass would first compute all of it
again, and hold it. So the encoder is traced and cut into pieces, each with a checkpoint of its own:
what goes from one piece to the next is remembered, and within a piece what the policy says (Chen et
al. 2016, Training deep nets with sublinear memory cost, Section 4).
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun, jaxprs_in_params

# Policies by name: those of `jax.checkpoint_policies` that need no further argument.
POLICIES = (
    'nothing_saveable',
    'dots_saveable',
    'dots_with_no_batch_dims_saveable',
    'everything_saveable',
)
MOST_PIECES = 64


def policy_of(remat: Any) -> Callable | None:
    """The policy of `jax.checkpoint` that is asked for; None where everything is remembered.

    Args:
      remat: True for 'nothing_saveable', the name of a policy, or a policy; False or None for none.

    Raises:
      ValueError: if it is none of these.
    """
    if remat is None or remat is False:
        return None
    name = POLICIES[0] if remat is True else remat
    if isinstance(name, str) and name in POLICIES:
        return getattr(jax.checkpoint_policies, name)
    if isinstance(remat, type) or not callable(remat):
        raise ValueError(
            f'remat must be true, one of {", ".join(POLICIES)}, or a policy of '
            f'jax.checkpoint_policies, not {remat!r}'
        )
    return remat


def in_pieces(function: Callable, policy: Callable, *args: Any) -> Any:
    """Applies a function so that its gradient computes most of it again.

    Args:
      function: pytrees of arrays -> pytree of arrays.
      policy: of `jax.checkpoint`: what is remembered within a piece.
      *args: pytrees of arrays.

    Returns:
      What the function returns.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= zip(jaxpr.invars, jax.tree.leaves(args), strict=True)
    read = lambda var: var.val if hasattr(var, 'val') else values[var]
    for start, stop in itertools.pairwise(cuts(jaxpr)):
        eqns = jaxpr.eqns[start:stop]
        inputs, outputs = _ends(jaxpr, start, stop)
        piece = jaxpr.replace(
            constvars=[],
            invars=inputs,
            outvars=outputs,
            eqns=eqns,
            debug_info=jaxpr.debug_info.with_unknown_names(),
        )
        again = jax.checkpoint(jaxpr_as_fun(ClosedJaxpr(piece, ())), policy=policy)
        values |= zip(outputs, again(*map(read, inputs)), strict=True)
    return jax.tree.unflatten(jax.tree.structure(shapes), map(read, jaxpr.outvars))


def cuts(jaxpr: Any) -> list[int]:
    """Chooses where a program is cut: numbers of its equations, from 0 to their number.

    Among up to MOST_PIECES pieces of about equal size, cut where little goes from one to the next,
    it takes the number for which that and the largest piece together are smallest, in bytes.

    Args:
      jaxpr: a `Jaxpr`.
    """
    count = len(jaxpr.eqns)
    if not count:
        return [0, 0]
    before = np.cumsum([0, *map(_bytes_computed, jaxpr.eqns)])
    live = _live_bytes(jaxpr)
    best, least = [0, count], before[-1]
    for pieces in range(2, min(MOST_PIECES, count) + 1):
        size = before[-1] / pieces
        found = [0]
        for target in size * np.arange(1, pieces):
            near = np.flatnonzero(np.abs(before - target) <= size / 2)
            near = near[(near > found[-1]) & (near < count)]
            if near.size:
                order = np.lexsort((np.abs(before[near] - target), live[near]))
                found.append(int(near[order[0]]))
        found.append(count)
        held = live[found[1:-1]].sum() + np.diff(before[found]).max()
        if held < least:
            best, least = found, held
    return best


def _ends(jaxpr, start, stop):
    """The variables that a piece reads from before it, and those of it that are read later."""
    made = {var for eqn in jaxpr.eqns[start:stop] for var in eqn.outvars}
    inside = [var for eqn in jaxpr.eqns[start:stop] for var in eqn.invars]
    after = [var for eqn in jaxpr.eqns[stop:] for var in eqn.invars]
    is_variable = lambda var: not hasattr(var, 'val')
    inputs = [var for var in filter(is_variable, inside) if var not in made]
    outputs = [var for var in filter(is_variable, [*after, *jaxpr.outvars]) if var in made]
    return list(dict.fromkeys(inputs)), list(dict.fromkeys(outputs))


def _live_bytes(jaxpr):
    """For each cut, the bytes that equations before it compute and equations after it read."""
    made = {var: n for n, eqn in enumerate(jaxpr.eqns) for var in eqn.outvars}
    last = {}
    for n, eqn in enumerate(jaxpr.eqns):
        last |= {var: n for var in eqn.invars if not hasattr(var, 'val') and var in made}
    changes = np.zeros(len(jaxpr.eqns) + 1)
    for var, n in last.items():
        changes[made[var] + 1] += _bytes(var)
        changes[n + 1] -= _bytes(var)
    return np.cumsum(changes)


def _bytes_computed(eqn):
    """The bytes that an equation computes, with those in the programs that it calls."""
    within = [sub for jaxpr in jaxprs_in_params(eqn.params) for sub in jaxpr.eqns]
    return sum(map(_bytes, eqn.outvars)) + sum(map(_bytes_computed, within))


def _bytes(var):
    size = getattr(var.aval, 'size', 0)
    return size * getattr(getattr(var.aval, 'dtype', None), 'itemsize', 0)
