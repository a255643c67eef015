"""Training with heads that lie stacked: each head moves as it would by itself.

An optimizer may treat parameters by their names, their shapes or their norms, and a stack has
others. So its update is traced over heads one by one. Where the program of each head of a family is
the same, but for what all heads share, one program runs for all of them under `vmap`; else heads
are not stacked.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend import core

from tag_jax.problem import (
    MultiTaskProblem,
    families_of,
    heads_apart,
    is_stacked,
    stack_heads,
)
from tag_jax.weighting.rule import TaskWeighting


class _Places(NamedTuple):
    """The leaves of a tree with stacked heads, and where they lie in the same tree without.

    Attributes:
      leaves: for each leaf its place, or the places `[F]` of the F tasks of a family.
      families: for each leaf its family, or None.
      structure: of the tree with stacked heads.
    """

    leaves: list[Any]
    families: list[tuple[str, ...] | None]
    structure: Any

    def of(self, family: tuple[str, ...] | None) -> list[int]:
        """The numbers of the leaves of a family, or of those that are of none."""
        return [n for n, own in enumerate(self.families) if own == family]

    def one_by_one(self, values: list[Any], wanted: list[int]) -> list[Any]:
        """The values of the leaves at some places in the tree without stacked heads."""
        found, needed = {}, set(wanted)
        for value, place in zip(values, self.leaves, strict=True):
            if np.ndim(place):
                found |= {at: value[n] for n, at in enumerate(place) if at in needed}
            else:
                found[place] = value
        return [found[at] for at in wanted]


class StackedUpdate(NamedTuple):
    """The update of an optimizer, over heads that lie stacked.

    Attributes:
      families: names of tasks, all of them, each once; see `StackedHeads`.
      inputs, outputs: the `_Places` of the leaves.
      takes: the shapes and dtypes of the inputs.
      rest: computes the results that are of no family, and N values that heads use beside their
        own.
      rest_of: the places of its arguments among the inputs one by one.
      of_family: `{family: a function of these values and of the leaves of one head}`.
    """

    families: tuple[tuple[str, ...], ...]
    inputs: _Places
    outputs: _Places
    takes: list[Any]
    rest: Callable
    rest_of: list[int]
    of_family: dict[tuple[str, ...], Callable]

    def fits(self, arguments: tuple[Any, ...]) -> bool:
        """Whether arguments have the shapes and dtypes that it was traced for."""
        leaves = jax.tree.leaves(arguments)
        return [(jnp.shape(x), jnp.result_type(x)) for x in leaves] == self.takes

    def __call__(self, *arguments: Any) -> tuple[Any, Any]:
        """(Updates, state), both with stacked heads.

        Args:
          *arguments: learning rate, gradients, state, parameters, value; heads are stacked.
        """
        leaves = jax.tree.leaves(arguments)
        found = self.rest(*self.inputs.one_by_one(leaves, self.rest_of))
        size = len(self.outputs.of(None))
        results, shared = {None: found[:size]}, found[size:]
        for family, function in self.of_family.items():
            own = [leaves[n] for n in self.inputs.of(family)]
            results[family] = jax.vmap(functools.partial(function, *shared))(*own)
        results = {family: iter(values) for family, values in results.items()}
        ordered = [next(results[family]) for family in self.outputs.families]
        return jax.tree.unflatten(self.outputs.structure, ordered)


def stacked_update(problem: MultiTaskProblem, optimizer: Callable) -> StackedUpdate | None:
    """The update of an optimizer over stacked heads, where they can be stacked; else None.

    Args:
      problem: a `MultiTaskProblem`.
      optimizer: learning rate -> optax transform.
    """
    # (Weights of losses and learning rates would be of another dtype in float64.)
    if jax.config.jax_enable_x64:
        return None
    return _stacked_update(problem, optimizer, jax.config.jax_default_matmul_precision)


@functools.lru_cache(maxsize=16)
def _stacked_update(problem, optimizer, precision):
    """See `stacked_update`; the precision of products is part of what the cache goes by."""
    del precision
    params, model_state = problem.shapes
    families = tuple(families_of((params['heads'], model_state['heads']), problem.programs))
    large = [family for family in families if len(family) > 1]
    if not isinstance(params['heads'], dict) or not any(
        jax.tree.leaves(params['heads'][family[0]]) for family in large
    ):
        return None
    scalar = jax.ShapeDtypeStruct((), np.float32)
    state = jax.eval_shape(lambda rate, params: optimizer(rate).init(params), scalar, params)
    arguments = (scalar, params, state, params, scalar)

    def update(rate, gradients, state, params, value):
        transform = optax.with_extra_args_support(optimizer(rate))
        return transform.update(gradients, state, params, value=value)

    traced, results = jax.make_jaxpr(update, return_shape=True)(*arguments)
    try:
        return _in_parts(traced, families, _places(arguments, families), _places(results, families))
    except _NotAlikeError:
        return None


def weighting_of_stacked(
    weighting: optax.GradientTransformation, families: tuple[tuple[str, ...], ...]
) -> optax.GradientTransformationExtraArgs:
    """A weighting that takes and gives stacked heads.

    A transform that is not of this package may do anything with heads, so it sees them one by one.

    Args:
      weighting: an optax transform of `TaskGradients`.
      families: see `StackedHeads`.
    """
    if isinstance(weighting, TaskWeighting):
        return weighting
    weighting = optax.with_extra_args_support(weighting)

    def update(gradients, state, params, **extra):
        apart = dataclasses.replace(gradients, heads=heads_apart(gradients.heads))
        updates, state = weighting.update(apart, state, heads_apart(params), **extra)
        return stack_heads(updates, families), state

    return optax.GradientTransformationExtraArgs(weighting.init, update)


def optimizer_of_stacked(
    optimizer: optax.GradientTransformation, learning_rate: jax.Array, update: StackedUpdate
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that takes and gives stacked heads.

    Args:
      optimizer: an optax transform with this learning rate.
      learning_rate: a scalar.
      update: its `StackedUpdate`.
    """

    def transform(gradients, state, params, *, value):
        arguments = (learning_rate, gradients, state, params, value)
        if update.fits(arguments):
            return update(*arguments)
        # A weighting of one's own gave gradients of another dtype.
        _, *apart, value = heads_apart(arguments)
        found = optax.with_extra_args_support(optimizer).update(*apart, value=value)
        return stack_heads(found, update.families)

    return optax.GradientTransformationExtraArgs(optimizer.init, transform)


class _NotAlikeError(Exception):
    """The optimizer does not treat heads of a family alike."""


def _places(tree, families):
    structure = jax.tree.structure(tree)
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    try:
        stacked = stack_heads(numbered, families, np.array)
    except ValueError as error:
        raise _NotAlikeError from error
    owners = []
    for node in jax.tree.leaves(stacked, is_leaf=is_stacked):
        for family, own in node.stacks.items() if is_stacked(node) else [((), node)]:
            owners += [family if len(family) > 1 else None] * len(jax.tree.leaves(own))
    leaves, structure = jax.tree.flatten(stacked)
    return _Places(leaves, owners, structure)


class _Head(NamedTuple):
    """A head in a traced update.

    Attributes:
      family: the one that it is of.
      own: the variables of its gradients, state and parameters.
      results: those of its updates and state.
      steps: the numbers of the steps that these come from.
    """

    family: tuple[str, ...]
    own: list[Any]
    results: list[Any]
    steps: list[int]


def _in_parts(traced, families, inputs, outputs):
    """The `StackedUpdate` of a traced update over heads one by one."""
    jaxpr = traced.jaxpr
    if jaxpr.effects:
        raise _NotAlikeError
    heads = _heads(jaxpr, families, inputs, outputs)
    wanted = [jaxpr.outvars[outputs.leaves[at]] for at in outputs.of(None)]
    used = Counter(n for head in heads for n in head.steps)
    common = {n for n, count in used.items() if count > 1}.union(_steps_to(jaxpr, wanted))
    heads = [head._replace(steps=[n for n in head.steps if n not in common]) for head in heads]
    shared = _shared(jaxpr, heads)
    of_family, texts = {}, {}
    for head in heads:
        text = _text(jaxpr, shared, head)
        if texts.setdefault(head.family, text) != text:
            raise _NotAlikeError
        if head.family not in of_family:
            own = [*shared, *head.own]
            of_family[head.family] = _function(traced, own, head.results, head.steps)
    needed = [*wanted, *shared, *(v for n in common for v in jaxpr.eqns[n].invars)]
    needed = set(filter(_is_variable, needed))
    rest_of = [n for n, v in enumerate(jaxpr.invars) if v in needed]
    rest = _function(traced, [jaxpr.invars[n] for n in rest_of], [*wanted, *shared], sorted(common))
    takes = [_shape(traced.in_avals, place) for place in inputs.leaves]
    return StackedUpdate(families, inputs, outputs, takes, rest, rest_of, of_family)


def _shape(inputs, place):
    """The shape and dtype of an input at a place, or of those at some places, stacked."""
    first = inputs[np.ravel(place)[0]]
    return (*np.shape(place), *first.shape), first.dtype


def _heads(jaxpr, families, inputs, outputs):
    """The heads of families with parameters."""
    heads = []
    for family in families:
        if len(family) == 1 or not inputs.of(family):
            continue
        for n in range(len(family)):
            own, results = (
                [variables[places.leaves[at][n]] for at in places.of(family)]
                for variables, places in ((jaxpr.invars, inputs), (jaxpr.outvars, outputs))
            )
            if any(jax.dtypes.issubdtype(v.aval.dtype, jax.dtypes.prng_key) for v in own):
                raise _NotAlikeError  # Under `vmap`, some kinds of keys give other numbers.
            heads.append(_Head(family, own, results, _steps_to(jaxpr, results)))
    return heads


def _shared(jaxpr, heads):
    """`{variable: number}` of those that heads use and neither have nor make."""
    shared = {}
    for head in heads:
        made = {v for n in head.steps for v in jaxpr.eqns[n].outvars}.union(head.own)
        for v in (*(v for n in head.steps for v in jaxpr.eqns[n].invars), *head.results):
            if _is_variable(v) and v not in made:
                shared.setdefault(v, len(shared))
    return shared


def _steps_to(jaxpr, results):
    """The numbers of the steps of a program that some results come from, in order."""
    needed, steps = set(filter(_is_variable, results)), []
    for n in reversed(range(len(jaxpr.eqns))):
        step = jaxpr.eqns[n]
        if not needed.isdisjoint(step.outvars):
            steps.append(n)
            needed.update(filter(_is_variable, step.invars))
    return steps[::-1]


def _is_variable(v):
    return not isinstance(v, core.Literal)


def _text(jaxpr, shared, head):
    """The steps from a head to its results as lines of text: equal for equal programs."""
    names = {v: f'shared {n}' for v, n in shared.items()}
    names |= {v: f'own {n}' for n, v in enumerate(head.own)}
    name_of = lambda v: names[v] if _is_variable(v) else f'{v.aval} {np.asarray(v.val).tobytes()}'
    lines = [[f'{v.aval}' for v in head.own]]
    for at in head.steps:
        step = jaxpr.eqns[at]
        names |= {v: f'line {len(lines)}, {n}' for n, v in enumerate(step.outvars)}
        settings = f'{step.primitive} {step.params} {_constants(step)}'
        lines.append([settings, *map(name_of, step.invars)])
    return [*lines, [name_of(v) for v in head.results]]


def _constants(step):
    """The arrays in the functions that a step calls, by their identity: texts do not show them."""
    found = []
    for inner in jax.tree.leaves(tuple(step.params.values())):
        if isinstance(inner, core.ClosedJaxpr):
            found += map(id, inner.consts)
            inner = inner.jaxpr
        if isinstance(inner, core.Jaxpr):
            found += [number for one in inner.eqns for number in _constants(one)]
    return found


def _function(traced, inputs, results, steps):
    """A part of a traced program, as a function of arrays."""
    jaxpr = traced.jaxpr
    part = core.Jaxpr(
        jaxpr.constvars,
        inputs,
        results,
        [jaxpr.eqns[n] for n in steps],
        debug_info=core.DebugInfo('part', 'optimizer', None, None),
    )
    return core.jaxpr_as_fun(core.ClosedJaxpr(part, traced.consts))
