"""Flax NNX encoders and task heads.

An encoder tells what its heads will see: `num_features` of a vector, `channels` of a feature map.
Heads of `tag_jax.problem.from_nnx` are made apart from the encoder; ask an abstract one:

Examples:
  >>> from flax import nnx
  >>> from tag_jax import models
  >>> make_encoder = lambda rngs: models.CelebAResNet18(rngs=rngs)
  >>> num_features = nnx.eval_shape(lambda: make_encoder(nnx.Rngs(0))).num_features
  >>> num_features
  2048
  >>> make_head = lambda rngs: nnx.Linear(num_features, 2, rngs=rngs)

`conv_general_dilated` and `max_pool` are for networks of one's own: their gradients are faster on a
CPU.
"""

from tag_jax.models.convolution import conv_general_dilated, max_pool
from tag_jax.models.lenet import LeNet
from tag_jax.models.mlp import MLP
from tag_jax.models.pretrained import from_torchvision, load_weights, save_weights
from tag_jax.models.pspnet import PyramidPooling
from tag_jax.models.resnet import CelebAResNet18, ResNet, SmallResNet, resnet18, resnet50
from tag_jax.models.sizes import multiply_adds, multiply_adds_of, width_for
from tag_jax.models.xception import PlainDecoder, Xception, XceptionDecoder

__all__ = [
    'MLP',
    'CelebAResNet18',
    'LeNet',
    'PlainDecoder',
    'PyramidPooling',
    'ResNet',
    'SmallResNet',
    'Xception',
    'XceptionDecoder',
    'conv_general_dilated',
    'from_torchvision',
    'load_weights',
    'max_pool',
    'multiply_adds',
    'multiply_adds_of',
    'resnet18',
    'resnet50',
    'save_weights',
    'width_for',
]
