"""What any classifier has to beat: lung-free image statistics, and frozen ImageNet features of the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import timm
import torch
from torch import nn

from models import preprocess
from models.training import data, transplant

SIDE = 192
AT_ONCE = 32


def trivial(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Lung-free features of an image: aspect, brightness, borders, histogram (DATA.md's shortcuts)."""
    rows, columns = pixels.shape
    edge = max(1, min(rows, columns) // 20)
    borders = [pixels[:edge], pixels[-edge:], pixels[:, :edge], pixels[:, -edge:]]
    histogram = np.histogram(pixels, bins=16, range=(0, 1))[0] / pixels.size
    shape = [columns / rows, float(pixels.mean()), float(pixels.std())]
    return np.array(shape + [float(f(b)) for b in borders for f in (np.mean, np.std)] + histogram.tolist())


def trivial_features(cases: Sequence[data.Case]) -> npt.NDArray[np.float64]:
    """(n, 27): `trivial` of each image."""
    return np.stack([trivial(data.read_pixels(c.path)) for c in cases])


def imagenet_network(weights: Path) -> nn.Module:
    """MobileNetV2 as ImageNet left it, for grey images; (n, 1, side, side) to (n, 1280)."""
    net = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0, in_chans=1)
    stored = transplant.imagenet(weights)
    net.load_state_dict({k: stored[k] for k in net.state_dict()})
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def frozen_features(cases: Sequence[data.Case], weights: Path) -> npt.NDArray[np.float64]:
    """(n, 1280): the pooled features of ImageNet's MobileNetV2 over the whole image, never trained here."""
    net = imagenet_network(weights)
    found = []
    for first in range(0, len(cases), AT_ONCE):
        squares = [preprocess.squared(data.read_pixels(c.path), SIDE) for c in cases[first : first + AT_ONCE]]
        images = preprocess.standardised(torch.from_numpy(np.stack(squares))[:, None])
        with torch.inference_mode():
            found.append(net(images.contiguous(memory_format=torch.channels_last)).double().numpy())
    return np.concatenate(found)
