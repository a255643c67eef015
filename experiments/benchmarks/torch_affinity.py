"""Exact inter-task affinities in PyTorch, written as one would there.

Needs torch (`pip install -e '.[bench]'`).
"""

import functools

import numpy as np
import torch
from torch.func import functional_call, vjp, vmap
from torch.nn.functional import cross_entropy

from experiments.benchmarks import torch_encoders

RATE = 1e-3


def device_of(backend):
    """The device of PyTorch for a backend of JAX: 'cuda' where both have a GPU, else 'cpu'."""
    return 'cuda' if backend == 'gpu' and torch.cuda.is_available() else 'cpu'


def calls(name, batch, device='cpu'):
    """The calls to time for one encoder, on one batch of two-way classifications.

    Args:
      name: of the encoder.
      batch: a `tag_jax.problem.Batch` with T tasks.
      device: of PyTorch.

    Returns:
      `{name: function without arguments}`: a plain Adam step on the summed losses; the affinities
      `[T, T]` by a loop over tasks with `functional_call`; the same with `torch.func.vmap`.
    """
    inputs, targets = torch_encoders.arrays(batch)
    encoder, heads = torch_encoders.network(name, inputs, [2] * len(targets))
    encoder, heads, inputs = encoder.to(device), heads.to(device), inputs.to(device)
    targets = [target.to(device) for target in targets]
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
        (gradients,) = vmap(pull)(torch.eye(len(targets), device=device))
        ahead = {n: p - RATE * gradients[n] for n, p in fixed.items()}
        with torch.no_grad():
            return 1 - vmap(by_task)(ahead) / before

    if not np.allclose(loop().detach().cpu(), batched().detach().cpu(), atol=1e-5):
        raise AssertionError('the two ways to compute affinities in PyTorch disagree')
    ways = {'PyTorch plain': plain, 'PyTorch loop': loop, 'PyTorch vmap': batched}
    return {what: functools.partial(_finished, way, device) for what, way in ways.items()}


def _finished(call, device):
    """Calls a function, and waits until the device has done it."""
    result = call()
    if device == 'cuda':
        torch.cuda.synchronize()
    return result
