"""Flax NNX encoders and task heads."""

from tag_jax.models.mlp import MLP

__all__ = ['MLP']
