"""The encoders of `encoders.py` in PyTorch, for measurements beside it. Needs torch."""

import numpy as np
import torch
from torch import nn


class CelebA(nn.Module):
    """A convolution, max pooling, a residual block, average pooling (batch statistics only)."""

    def __init__(self):
        super().__init__()
        convolve = lambda channels: nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        normalise = lambda: nn.BatchNorm2d(64, track_running_stats=False)
        self.first = nn.Sequential(convolve(3), normalise(), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.residual = nn.Sequential(
            *(convolve(64), normalise(), nn.ReLU(), convolve(64), normalise())
        )

    def forward(self, images):
        images = self.first(images)
        return torch.relu(images + self.residual(images)).mean(dim=(2, 3))


def mlp():
    return nn.Sequential(nn.Linear(144, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())


def small():
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(2048, 64), nn.ReLU()),
    )


ENCODERS = {'mlp': mlp, 'small': small, 'celeba': CelebA}


def arrays(batch):
    """The inputs (channels first) and the list of targets of a `tag_jax.problem.Batch`."""
    inputs = torch.tensor(np.asarray(batch.inputs))
    if inputs.ndim == 4:
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    return inputs, [torch.tensor(np.asarray(target)).long() for target in batch.targets.values()]


def network(name, inputs, sizes):
    """An encoder and a dense head for each of the `sizes` (numbers of classes)."""
    torch.manual_seed(0)
    encoder = ENCODERS[name]()
    with torch.no_grad():
        width = encoder(inputs[:2]).shape[1]
    return encoder, nn.ModuleList(nn.Linear(width, size) for size in sizes)
