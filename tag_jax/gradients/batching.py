"""Functions over a stack of networks or gradients: at once, in parts or one by one."""

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

from tag_jax.problem import MultiTaskProblem

# What passes that are batched over tasks may hold at a time, unless the caller says how to batch.
MAX_BATCHED_BYTES = 2**31


def map_stacked(function: Callable, stacked: Any, batching: str | int | None = None) -> Any:
    """Applies a function along the leading axis of stacked arguments.

    Args:
      function: pytree -> pytree.
      stacked: pytree of arrays `[T, ...]`, for T tasks or networks.
      batching: 'vmap', all of them in one batched program; 'unroll', one after another in
        straight-line code, whose compile time grows with T; or an integer n, n at a time in a
        batched program within a loop, which bounds memory. None for the faster one
        (`faster_batching`), with as many at a time as hold MAX_BATCHED_BYTES by `held_bytes`.

    Returns:
      The results, stacked: pytree of arrays `[T, ...]`.

    Raises:
      ValueError: if `batching` is none of these.
    """
    if batching is None:
        batching = _batching_within_memory(function, stacked)
    if batching == 'vmap':
        return jax.vmap(function)(stacked)
    if batching == 'unroll':
        size = jax.tree.leaves(stacked)[0].shape[0]
        results = [function(jax.tree.map(lambda x, n=n: x[n], stacked)) for n in range(size)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
    if isinstance(batching, numbers.Integral) and batching > 0 and not isinstance(batching, bool):
        return jax.lax.map(function, stacked, batch_size=int(batching))
    raise ValueError(f"batching must be 'vmap', 'unroll' or a positive integer, not {batching!r}")


def _batching_within_memory(function, stacked):
    size = jax.tree.leaves(stacked)[0].shape[0]
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), stacked)
    batching = faster_batching(function, one)
    if batching == 'vmap':
        at_once = max(1, MAX_BATCHED_BYTES // max(1, held_bytes(function, one)))
        if at_once < size:
            return -(-size // -(-size // at_once))  # Parts of one size, as far as that goes.
    return batching


def preferred_batching(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    inputs: Any,
) -> str:
    """The faster way to batch passes of a problem's encoder: 'unroll' or 'vmap'.

    Args:
      problem: a `MultiTaskProblem`.
      params, model_state, inputs: arrays or shapes; only shapes matter.
    """
    return faster_batching(
        lambda params, state, x, key: problem.represent(params, state, x, True, key),
        params,
        model_state,
        inputs,
        jax.eval_shape(lambda: jax.random.key(0)),
    )


def faster_batching(function: Callable, *arguments: Any) -> str:
    """The faster way to batch calls of a function: 'unroll' or 'vmap'.

    XLA's convolutions on CPU are slow when they are grouped (vmap over kernels) or stand inside a
    loop, so what contains convolutions is unrolled there. Everything else is vmapped.

    Args:
      function: a traceable function.
      *arguments: its arguments, as arrays or shapes; only shapes matter.
    """
    if jax.default_backend() != 'cpu':
        return 'vmap'
    traced = jax.make_jaxpr(function)(*arguments)
    return 'unroll' if _contains_convolution(traced.jaxpr) else 'vmap'


def held_bytes(function: Callable, *arguments: Any) -> int:
    """An estimate of the memory that a function holds at most while it runs, without its arguments.

    Args:
      function: a traceable function.
      *arguments: its arguments, as arrays or shapes; only shapes matter.

    Returns:
      Bytes: the largest sum over values that are made and still needed, none of them fused away.
    """
    return _held_bytes(jax.make_jaxpr(function)(*arguments).jaxpr)


def _held_bytes(jaxpr):
    last_use = {}
    for index, equation in enumerate(jaxpr.eqns):
        last_use |= {id(value): index for value in (*equation.invars, *equation.outvars)}
    last_use |= {id(value): len(jaxpr.eqns) for value in jaxpr.outvars}
    live, most = {}, 0
    for index, equation in enumerate(jaxpr.eqns):
        inside = max(map(_held_bytes, jaxprs_in_params(equation.params)), default=0)
        held = sum(live.values())
        live |= {id(value): _num_bytes(value.aval) for value in equation.outvars}
        most = max(most, held + inside, sum(live.values()))
        live = {value: size for value, size in live.items() if last_use[value] > index}
    return most


def _num_bytes(shape):
    return shape.size * getattr(shape.dtype, 'itemsize', 0)


def _contains_convolution(jaxpr):
    return any(
        equation.primitive.name == 'conv_general_dilated'
        or any(map(_contains_convolution, jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )
