"""
EfficientNet-Lite1 that begins as MobileNetV2, exactly.

No ImageNet weights of an EfficientNet were at hand, MobileNetV2's were. EfficientNet-Lite1 (timm `efficientnet_lite1`)
contains it: the same plan of stages, strides and activation (ReLU6, no squeeze-and-excite), each stage at least as deep
and as wide. So every MobileNetV2 tensor goes into the leading corner of its counterpart, 3x3 kernels into the middle of
5x5 ones; channels without a counterpart do not feed those that have one, and blocks without a counterpart add nothing.
At the start both networks give the same features; training may then use the new channels and blocks (compare Net2Net,
Chen et al. 2016).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file

OWN_NAME = re.compile(r"blocks\.(\d+)\.(\d+)\.")


def imagenet(weights: Path) -> dict[str, torch.Tensor]:
    """timm's `mobilenetv2_100` of a safetensors file for grey images: the three colours of the stem are summed."""
    stored = {k: v.float() for k, v in load_file(weights).items()}
    stored["conv_stem.weight"] = stored["conv_stem.weight"].sum(1, keepdim=True)
    return stored


def from_mobilenet(wanted: dict[str, torch.Tensor], weights: Path) -> dict[str, torch.Tensor]:
    """
    Fill a one-channel EfficientNet-Lite1 state dict.

    Args:
        wanted: the freshly initialised state dict of timm's `efficientnet_lite1` with `in_chans=1`.
        weights: safetensors file of timm's `mobilenetv2_100`.
    """
    stored = imagenet(weights)
    blocks = {m.group() for key in stored if (m := OWN_NAME.match(key))}
    return {key: _started(key, fresh.clone(), stored, blocks) for key, fresh in wanted.items()}


def _started(key: str, fresh: torch.Tensor, stored: dict[str, torch.Tensor], blocks: set[str]) -> torch.Tensor:
    own = OWN_NAME.match(key)
    if own and own.group() not in blocks:
        return torch.zeros_like(fresh) if key.endswith("bn3.weight") else fresh  # the residual branch adds nothing
    if key not in stored or not fresh.is_floating_point():
        return fresh
    return _cornered(fresh, stored[key])


def _cornered(fresh: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    if fresh.dim() == 1:
        fresh[: len(old)] = old
        return fresh
    outputs, inputs, rows, columns = old.shape
    edge = (fresh.shape[-1] - columns) // 2
    fresh[:outputs] = 0
    fresh[:outputs, :inputs, edge : edge + rows, edge : edge + columns] = old
    return fresh
