"""Exact inter-task affinities in PyTorch, written as one would there.

Needs torch (`pip install -e '.[bench]'`).
"""

import numpy as np
import torch
from torch.func import functional_call, vjp, vmap
from torch.nn.functional import cross_entropy

from experiments.benchmarks import torch_encoders

RATE = 1e-3


def calls(name, batch):
    """The calls to time for one encoder, on one batch of two-way classifications.

    Args:
      name: of the encoder.
      batch: a `tag_jax.problem.Batch` with T tasks.

    Returns:
      `{name: function without arguments}`: a plain Adam step on the summed losses; the affinities
      `[T, T]` by a loop over tasks with `functional_call`; the same with `torch.func.vmap`.
    """
    inputs, targets = torch_encoders.arrays(batch)
    encoder, heads = torch_encoders.network(name, inputs, [2] * len(targets))
    optimizer = torch.optim.Adam([*encoder.parameters(), *heads.parameters()], lr=RATE)
    params = dict(encoder.named_parameters())

    def losses(representation):
        return torch.stack(
            [
                cross_entropy(head(representation), target)
                for head, target in zip(heads, targets, strict=True)
            ]
        )

    def plain():
        optimizer.zero_grad()
        losses(encoder(inputs)).sum().backward()
        optimizer.step()

    def loop():
        before = losses(encoder(inputs))
        rows = []
        for loss in before:
            gradient = torch.autograd.grad(loss, params.values(), retain_graph=True)
            with torch.no_grad():
                ahead = {
                    n: p - RATE * g for (n, p), g in zip(params.items(), gradient, strict=True)
                }
                rows.append(1 - losses(functional_call(encoder, ahead, (inputs,))) / before)
        return torch.stack(rows)

    def batched():
        fixed = {n: p.detach() for n, p in params.items()}
        by_task = lambda p: losses(functional_call(encoder, p, (inputs,)))
        before, pull = vjp(by_task, fixed)
        (gradients,) = vmap(pull)(torch.eye(len(targets)))
        ahead = {n: p - RATE * gradients[n] for n, p in fixed.items()}
        with torch.no_grad():
            return 1 - vmap(by_task)(ahead) / before

    if not np.allclose(loop().detach(), batched().detach(), atol=1e-5):
        raise AssertionError('the two ways to compute affinities in PyTorch disagree')
    return {'PyTorch plain': plain, 'PyTorch loop': loop, 'PyTorch vmap': batched}
