"""Training of the lung U-Net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from models import networks, preprocess
from models.training import augment, data, loop

BATCH = 16
CACHED_SIDE = 224
ADULT_SHARE = 0.4
"""Share of each batch drawn from adults (few, severe); the rest are children."""
SPOILT_SHARE = 0.08
"""Share of each batch that is no upright radiograph, to be answered with an empty mask."""


def train(cases: list[data.Case], plan: loop.Plan, weights_from: Path | None) -> nn.Module:
    """Train on the v7 masks of *cases*; the encoder starts from ImageNet weights where given."""
    torch.manual_seed(plan.seed)
    side = int(networks.LUNG_ARCHITECTURE["side"])
    net = networks.build(networks.LUNG_ARCHITECTURE)
    if weights_from is not None:
        start_encoder(net, weights_from)
    images, masks = cached(cases)
    child = torch.tensor([i for i, c in enumerate(cases) if c.role == "paediatric"])
    adult = torch.tensor([i for i, c in enumerate(cases) if c.role != "paediatric"])
    adults = round(BATCH * ADULT_SHARE)
    net = net.to(memory_format=torch.channels_last)

    def loss_of(net: nn.Module, generator: torch.Generator) -> torch.Tensor:
        chosen = torch.cat(
            [
                adult[torch.randint(len(adult), (adults,), generator=generator)],
                child[torch.randint(len(child), (BATCH - adults,), generator=generator)],
            ]
        )
        picture, target = drawn(images[chosen].float() / 255, masks[chosen].float() / 255, side, generator)
        logits = net(preprocess.standardised(picture).contiguous(memory_format=torch.channels_last))
        return dice_and_entropy(logits, target)

    return loop.train(net, loss_of, plan)


def drawn(
    images: torch.Tensor, masks: torch.Tensor, side: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One augmented batch: pictures in about [0, 1] and their masks."""
    theta = augment.geometry(len(images), generator, scale=1.45, aspect=1.2, degrees=12, shift=0.12)
    both = augment.warp(torch.cat([images, masks], dim=1), theta)
    both = F.interpolate(both, size=(side, side), mode="bilinear", align_corners=False)
    picture, target = both[:, :1], (both[:, 1:] > 0.5).float()
    picture = augment.degrade(augment.light(augment.opacities(picture, generator), generator), generator)
    spoilt = torch.rand(len(images), generator=generator) < SPOILT_SHARE
    if spoilt.any():
        picture, target = picture.clone(), target.clone()
        picture[spoilt] = augment.spoil(picture[spoilt], generator)
        target[spoilt] = 0
    return picture, target


def dice_and_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus one minus soft Dice, averaged over images."""
    probability = torch.sigmoid(logits)
    overlap = (probability * target).sum((1, 2, 3))
    dice = (2 * overlap + 50) / (probability.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 50)
    return F.binary_cross_entropy_with_logits(logits, target) + (1 - dice).mean()


def cached(cases: list[data.Case]) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 1, side, side) uint8 pictures and masks."""
    images, masks = [], []
    for case in cases:
        path = case.mask_of("v7")
        assert path is not None
        images.append((preprocess.squared(data.read_pixels(case.path), CACHED_SIDE) * 255).round().astype(np.uint8))
        mask = torch.from_numpy(data.read_mask(path)).float()[None, None]
        small = F.interpolate(mask, size=(CACHED_SIDE, CACHED_SIDE), mode="bilinear", antialias=True)
        masks.append((small[0, 0].numpy() * 255).round().astype(np.uint8))
    return torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(masks))[:, None]


def start_encoder(net: nn.Module, weights: Path) -> None:
    """Put ImageNet weights of timm's `mobilenetv2_100` into the encoder; the three colours are summed to grey."""
    stored = {k: v.float() for k, v in load_file(weights).items()}
    stored["conv_stem.weight"] = stored["conv_stem.weight"].sum(1, keepdim=True)
    encoder = net.encoder.model  # type: ignore[union-attr]
    wanted = encoder.state_dict()  # type: ignore[union-attr]
    encoder.load_state_dict({k: stored[k] for k in wanted})  # type: ignore[union-attr]
