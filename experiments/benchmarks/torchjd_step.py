"""TorchJD's MGDA in the space of the shared parameters, beside PyTorch's own plain step.

Needs torch and torchjd (`pip install -e '.[bench]'`). The network is that of the benchmark.
"""

import numpy as np
import torch
from torch import nn
from torchjd.aggregation import MGDA
from torchjd.autojac import jac_to_grad, mtl_backward

from experiments.benchmarks import timing, torch_encoders


def measure(size, batch, rounds):
    """Times a step with MGDA beside the plain sum.

    Args:
      size: number of tasks.
      batch: a `tag_jax.problem.Batch` of pictures `[B, 32, 32, 3]`.
      rounds: steps timed of each kind.

    Returns:
      Median seconds of the plain step, and the median over rounds of the ratio.
    """
    images, targets = torch_encoders.arrays(batch)
    encoder, heads = torch_encoders.network('small', images, [10] * size)
    optimizer = torch.optim.Adam([*encoder.parameters(), *heads.parameters()], lr=1e-3)
    aggregator, cross_entropy = MGDA(), nn.CrossEntropyLoss()

    def losses():
        representation = encoder(images)
        found = [
            cross_entropy(head(representation), target)
            for head, target in zip(heads, targets, strict=True)
        ]
        return representation, found

    def plain():
        optimizer.zero_grad()
        sum(losses()[1]).backward()
        optimizer.step()

    def weighted():
        optimizer.zero_grad()
        representation, found = losses()
        mtl_backward(found, features=representation)
        jac_to_grad(encoder.parameters(), aggregator)
        optimizer.step()

    seconds = timing.side_by_side({'plain': plain, 'weighted': weighted}, rounds)
    return np.median(seconds['plain']), np.median(seconds['weighted'] / seconds['plain'])
