"""The U-Net of Ronneberger et al. 2015, sizes left open: the plain network that the optimised one is held against."""

from __future__ import annotations

import torch
from torch import nn


class PlainUNet(nn.Module):
    """
    Down by pooling, up by transposed convolution, skips by concatenation, from random weights.

    Args:
        depth: how often the picture is halved.
        width: channels at full size; doubled with every halving, to eight times at most.
        convolutions: 3x3 convolutions at each size.
        dropout: share of the channels dropped at the bottom.
        outputs: channels of the answer.
    """

    def __init__(self, depth: int, width: int, convolutions: int, dropout: float, outputs: int) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _block(1 if level == 0 else widths[level - 1], widths[level], convolutions) for level in range(depth + 1)
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout2d(dropout)
        upwards = range(depth - 1, -1, -1)
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2) for i in upwards)
        self.up = nn.ModuleList(_block(2 * widths[i], widths[i], convolutions) for i in upwards)
        self.last = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 1, side, side) to (n, outputs, side, side) logits; the side is a multiple of 2 to the depth."""
        passed = []
        x = images
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            passed.append(x)
        x = self.dropout(passed.pop())
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            x = block(torch.cat([passed.pop(), enlarge(x)], dim=1))
        answer: torch.Tensor = self.last(x)
        return answer


def _block(inputs: int, outputs: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(convolutions):
        layers += [
            nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
