"""The architectures at full size, by their shapes only, against the papers' figures."""

import itertools

import pytest
from architectures import abstract, num_params, output_shape
from flax import nnx

from tag_jax import models

ENCODERS = {
    # He et al. 2016 as in torchvision, whose 11,689,512 and 25,557,032 include the last layer, and
    # whose 1.81 and 4.09 billion multiply-adds are at 224 x 224.
    'resnet18': (models.resnet18, (224, 224, 3), (7, 7, 512), 11_689_512 - 513_000, 1.81e9),
    'resnet50': (models.resnet50, (224, 224, 3), (7, 7, 2048), 25_557_032 - 2_049_000, 4.09e9),
    # Standley et al. 2020, section 4: about 4 million parameters, 2.28 billion multiply-adds.
    'Xception': (models.Xception, (256, 256, 3), (16, 16, 256), 4_089_192, 2.28e9),
    # Sener & Koltun 2018, supplement C: 50 units, and 2 x 2 x 512 numbers; by hand from the layers.
    'LeNet': (models.LeNet, (28, 28, 1), (50,), 260 + 5020 + 16_050, 480_000),
    'CelebAResNet18': (models.CelebAResNet18, (64, 64, 3), (2048,), 11_168_832, 2.222e9),
    # Fifty et al. 2021, their code, by hand: 3, 64 and 64 channels in, at 64 x 64 and 31 x 31.
    'SmallResNet': (
        models.SmallResNet,
        (64, 64, 3),
        (14_400,),
        9 * (3 + 64 + 64) * 64 + 3 * 2 * 64,
        9 * 64 * (64**2 * 3 + 31**2 * 128),
    ),
}


@pytest.mark.variants(2)
@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[pytest.mark.sweep] if name == 'resnet50' else [])
        for name in ENCODERS
    ],
)
def test_encoders_have_the_papers_sizes(name):
    encoder, image, representation, parameters, cost = ENCODERS[name]
    module = abstract(encoder)
    assert num_params(module) == parameters
    assert output_shape(module, image) == representation
    width = module.num_features if len(representation) == 1 else module.channels
    assert width == representation[-1]
    found = models.multiply_adds(lambda rngs: encoder(rngs=rngs), image)
    assert found == pytest.approx(cost, rel=0.015)


def test_xception_has_seventeen_layers_and_four_million_parameters():
    """Separable ones count once; those that only halve a map, or its shortcut, are not counted."""
    module = abstract(models.Xception)
    assert len(module.stem) + sum(len(block.layers) for block in module.blocks) + 1 == 17
    assert num_params(module) == pytest.approx(4e6, rel=0.1)


@pytest.mark.parametrize('num_outputs', [1, 18])
def test_the_decoder_of_standley_has_about_116_000_parameters(num_outputs):
    module = abstract(models.XceptionDecoder, 256, num_outputs)
    assert num_params(module) == 115_760 + 48 * num_outputs == pytest.approx(116_000, rel=0.01)
    assert output_shape(module, (16, 16, 256)) == (256, 256, num_outputs)


def test_the_encoder_and_the_decoder_of_fifty():
    """Appendix B.7, layer by layer: separable convolutions, BatchNorm, what halves a map."""
    module = abstract(models.Xception, 512, 8, later=True)
    separable = lambda inputs, outputs: 9 * inputs + inputs * outputs + 2 * outputs
    halving = lambda inputs, outputs: (
        separable(inputs, outputs)
        + separable(outputs, outputs)
        + (4 * outputs * outputs + outputs)  # The convolution of stride 2.
        + (inputs * outputs + 2 * outputs)  # The shortcut.
    )
    assert num_params(module) == (
        (27 * 32 + 2 * 32)
        + (9 * 32 * 64 + 2 * 64)
        + halving(64, 128)
        + halving(128, 256)
        + halving(256, 728)
        + 8 * 3 * separable(728, 728)
        + separable(728, 512)
    )
    assert output_shape(module, (256, 256, 3)) == (16, 16, 512)
    decoder = abstract(models.PlainDecoder, 512, 17)
    sizes = (512, 128, 64, 48, 32)
    transposed = sum(4 * a * b + b + 2 * b for a, b in itertools.pairwise(sizes))
    plain = sum(9 * a * a + a + 2 * a for a in sizes[1:4]) + 9 * 32 * 17 + 17
    assert num_params(decoder) == transposed + plain
    assert output_shape(decoder, (16, 16, 512)) == (256, 256, 17)
    kinds = [type(layer.convolution).__name__ for layer in decoder.layers]
    assert kinds == ['ConvTranspose', 'Conv'] * 3 + ['ConvTranspose']


def test_pyramid_pooling_on_cityscapes():
    encoder = abstract(models.resnet50, output_stride=8)
    assert output_shape(encoder, (256, 512, 3)) == (32, 64, 2048)
    decoder = abstract(models.PyramidPooling, 2048, 19, (256, 512))
    assert output_shape(decoder, (32, 64, 2048)) == (256, 512, 19)
    assert num_params(decoder) == (
        4 * (2048 * 512 + 2 * 512) + 9 * (2048 + 4 * 512) * 512 + 2 * 512 + 512 * 19 + 19
    )


@pytest.mark.parametrize(('stride', 'size'), [(32, (2, 3)), (16, (4, 5)), (8, (8, 9))])
def test_output_strides_round_up(stride, size):
    module = abstract(models.resnet18, output_stride=stride, width=0.05)
    assert output_shape(module, (64, 66, 3)) == (*size, 26)
    assert module.channels == 26


@pytest.mark.parametrize('size', [(50, 75), (64, 64), (33, 96)])
def test_other_image_sizes(size):
    for encoder in (models.CelebAResNet18, models.SmallResNet):
        module = abstract(encoder, size, width=0.05)
        assert output_shape(module, (*size, 3)) == (module.num_features,)
    assert output_shape(abstract(models.LeNet, (*size, 3)), (*size, 3)) == (50,)


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match='must be 8, 16 or 32, not 4'):
        models.resnet18(output_stride=4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r'16 x 16 pixels or more, not \(15, 28\)'):
        models.LeNet((15, 28, 1), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match='nothing is left of images of 4 x 64 pixels'):
        abstract(models.SmallResNet, (4, 64))
    with pytest.raises(ValueError, match='nothing is left of images of 64 x 24 pixels'):
        abstract(models.CelebAResNet18, (64, 24), width=0.05)
