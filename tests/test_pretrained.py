"""Values that an encoder begins with: refused where they do not fit, with what to do instead."""

import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import TASKS, LinenNormalisedEncoder, NormalisedEncoder, make_split

from tag_jax import evaluation
from tag_jax.problem import from_functions, from_linen, from_nnx

EXAMPLE = np.zeros((1, 3), np.float32)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(3, 8, rngs=rngs)
        self.down = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.relu(self.up(x)))


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name='last')(nn.relu(nn.Dense(8, name='first')(x)))


def add_lora(module, rngs):
    module.down = nnx.LoRA(8, 2, 4, base_module=module.down, rngs=rngs)
    return module


def adapted(backbone, **options):
    """A pretrained module with adapters, as docs/frozen.md makes one."""
    make = lambda rngs: add_lora(nnx.clone(backbone), rngs)
    return from_nnx(make, TASKS, EXAMPLE, **{'trainable': nnx.LoRAParam, **options})


def linen(pretrained, **options):
    return from_linen(Encoder(), TASKS, EXAMPLE, pretrained=pretrained, **options)


def unsaid(make, *parts):
    """The parts that are not in the first line of what refuses something, and all other lines."""
    with pytest.raises(ValueError, match='.') as caught:
        make()
    first, *others = str(caught.value).splitlines()
    return [part for part in parts if part not in first] + others


def test_a_pretrained_module_is_cloned_and_wrapped():
    backbone = Block(nnx.Rngs(5))
    problem = adapted(backbone)
    params, state = problem.init(jax.random.key(1))
    assert set(params['shared']['down']) == {'lora_a', 'lora_b'}
    frozen = state['frozen']
    np.testing.assert_array_equal(
        frozen['down']['base_module']['kernel'], backbone.down.kernel[...]
    )
    # LoRA begins with a zero matrix, so that the encoder computes what the backbone does.
    inputs = make_split(8).inputs
    found, _ = problem.represent(params, state, inputs, False, None)
    np.testing.assert_allclose(found, backbone(inputs), rtol=1e-5, atol=1e-6)
    assert isinstance(backbone.down, nnx.Linear)


def test_a_function_that_changes_a_module_from_outside_is_refused():
    backbone = Block(nnx.Rngs(5))
    parts = (
        'changes a module from outside of it',
        'lambda rngs: add_lora(nnx.clone(backbone), rngs)',
    )
    assert not unsaid(
        lambda: from_nnx(lambda rngs: add_lora(backbone, rngs), TASKS, EXAMPLE),
        'the function that makes the encoder',
        *parts,
    )
    heads = {'radius': lambda rngs: add_lora(backbone, rngs)}
    make = lambda rngs: nnx.Linear(3, 3, rngs=rngs)
    assert not unsaid(
        lambda: from_nnx(make, TASKS, EXAMPLE, heads), "makes the head of 'radius'", *parts
    )


def test_names_that_the_encoder_has_elsewhere_have_a_mend():
    backbone, trained = Block(nnx.Rngs(5)), Encoder().init(jax.random.key(0), EXAMPLE)['params']
    assert not unsaid(
        lambda: adapted(backbone, pretrained=backbone),
        "the parameter 'down/bias', which the encoder has not: it has 'down/base_module/bias'",
        'nnx.clone(backbone), in the function that makes the encoder',
    )
    module = add_lora(Block(nnx.Rngs(0)), nnx.Rngs(1))
    assert not unsaid(
        lambda: from_nnx(Block, TASKS, EXAMPLE, pretrained={'down': {'base_module': {'bias': 1}}}),
        'it has no LoRA around that layer',
    )
    adapted(backbone, pretrained=module)
    assert not unsaid(
        lambda: linen({'encoder': trained, 'radius': trained['last']}),
        "give what pretrained has under 'encoder' alone",
    )

    class Around(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Encoder(name='backbone')(x)

    assert not unsaid(
        lambda: from_linen(Around(), TASKS, EXAMPLE, pretrained=trained),
        "it has 'backbone/first/bias', so give 'first/bias' under 'backbone'",
    )
    assert not unsaid(lambda: linen({'frist': trained['first']}), 'it has first/bias, first/kernel')


def test_a_linen_encoder_for_other_inputs_is_named():
    wide = Encoder().init(jax.random.key(0), np.zeros((1, 2)))['params']
    assert not unsaid(
        lambda: linen(wide),
        "'first/kernel' of shape [2, 8], and the encoder [3, 8] for inputs of shape [N, 3]",
        'one more column for each column that has some',
    )


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_at_once(bad):
    trained = jax.tree.map(np.array, Encoder().init(jax.random.key(0), EXAMPLE)['params'])
    trained['last']['kernel'][1, 2] = bad
    sentence = "pretrained has values that are not finite in 'last/kernel'"
    assert not unsaid(lambda: linen(trained), sentence)
    assert not unsaid(lambda: linen({'params': trained}), sentence)
    assert not unsaid(
        lambda: linen(jax.tree.map(lambda x: x.astype(jnp.bfloat16), trained)), sentence
    )
    init = lambda key: {
        'shared': Encoder().init(key, EXAMPLE)['params'],
        'heads': dict.fromkeys(TASKS, jnp.ones((4, 1))),
    }
    encode = lambda shared, x: Encoder().apply({'params': shared}, x)
    decode = dict.fromkeys(TASKS, lambda head, z: z @ head)
    assert not unsaid(
        lambda: from_functions(init, encode, decode, TASKS, pretrained=trained), sentence
    )
    backbone = Block(nnx.Rngs(5))
    backbone.down.kernel[...] = backbone.down.kernel[...].at[1, 2].set(bad)
    assert not unsaid(
        lambda: from_nnx(Block, TASKS, EXAMPLE, pretrained=backbone),
        "not finite in 'down/kernel'",
    )


def test_frozen_weights_that_are_not_finite_are_refused_before_training():
    backbone = Block(nnx.Rngs(5))
    backbone.down.kernel[...] = jnp.full((8, 4), jnp.nan)
    problem = adapted(backbone)
    sentence = "the frozen part of the encoder has values that are not finite in 'down/base_module"
    assert not unsaid(lambda: evaluation.check_split(problem, make_split(8), 'train'), sentence)


def test_state_may_hold_infinities_and_no_nan():
    normalised = NormalisedEncoder(nnx.Rngs(0))
    normalised.normalise.mean[...] = jnp.full(8, -jnp.inf)
    from_nnx(NormalisedEncoder, TASKS, EXAMPLE, pretrained=normalised)
    normalised.normalise.mean[...] = jnp.full(8, jnp.nan)
    assert not unsaid(
        lambda: from_nnx(NormalisedEncoder, TASKS, EXAMPLE, pretrained=normalised),
        "not finite in 'normalise/mean'",
    )


def test_running_statistics_that_stay_behind_are_warned_of(caplog):
    module = NormalisedEncoder(nnx.Rngs(0))
    variables = LinenNormalisedEncoder().init(jax.random.key(0), EXAMPLE, train=False)
    nnx_encoder = lambda given: from_nnx(NormalisedEncoder, TASKS, EXAMPLE, pretrained=given)
    linen_encoder = lambda given: from_linen(
        LinenNormalisedEncoder(), TASKS, EXAMPLE, pretrained=given
    )
    with caplog.at_level(logging.WARNING):
        for make, given in (
            (nnx_encoder, module),
            (nnx_encoder, nnx.state(module)),
            (nnx_encoder, {'dense': nnx.to_pure_dict(nnx.state(module.dense, nnx.Param))}),
            (linen_encoder, variables),
            (linen_encoder, {'Dense_0': variables['params']['Dense_0']}),
        ):
            make(given)
        assert not caplog.messages
        nnx_encoder(nnx.state(module, nnx.Param))
        nnx_encoder(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
        linen_encoder(variables['params'])
        linen_encoder({'params': variables['params']})
    assert len(caplog.messages) == 4
    for message in caplog.messages[:2]:
        assert 'without the state that belongs to them: normalise/mean, normalise/var' in message
    for message in caplog.messages[2:]:
        assert 'batch_stats/BatchNorm_0/mean, batch_stats/BatchNorm_0/var' in message
    assert all('nnx.state(module) of NNX' in message for message in caplog.messages)
