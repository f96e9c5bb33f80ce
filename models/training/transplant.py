"""
EfficientNet-B0 started from MobileNetV2's ImageNet weights.

The two have the same plan: stem 32, seven stages of inverted residuals expanding six times, head 1280. Each
MobileNetV2 tensor fits into the leading corner of its EfficientNet counterpart; 3x3 kernels sit in the middle of 5x5
ones; squeeze-and-excite starts nearly open; a block without a counterpart starts as identity. Weights from channels
that have no counterpart start small, so the network begins close to MobileNetV2 and learns the rest.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

OPEN_GATE = 3.0
"""Squeeze-and-excite bias at the start: sigmoid(3) = 0.95."""
NEW_WEIGHT_SCALE = 0.1
EXTRA_BLOCK = "blocks.5.3."


def from_mobilenet(wanted: dict[str, torch.Tensor], weights: Path) -> dict[str, torch.Tensor]:
    """
    Fill a one-channel EfficientNet-B0 state dict.

    Args:
        wanted: the freshly initialised state dict of timm's `efficientnet_b0` with `in_chans=1`.
        weights: safetensors file of timm's `mobilenetv2_100`.
    """
    stored = {k: v.float() for k, v in load_file(weights).items()}
    stored["conv_stem.weight"] = stored["conv_stem.weight"].sum(1, keepdim=True)
    return {key: _started(key, fresh.clone(), stored) for key, fresh in wanted.items()}


def _started(key: str, fresh: torch.Tensor, stored: dict[str, torch.Tensor]) -> torch.Tensor:
    if ".se." in key:
        if key.endswith("conv_expand.bias"):
            return torch.full_like(fresh, OPEN_GATE)
        return fresh * NEW_WEIGHT_SCALE if key.endswith("conv_expand.weight") else fresh
    if key == f"{EXTRA_BLOCK}bn3.weight":
        return torch.zeros_like(fresh)
    if key not in stored or not fresh.is_floating_point():
        return fresh
    return _cornered(fresh, stored[key])


def _cornered(fresh: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    if fresh.dim() == 1:
        fresh[: len(old)] = old
        return fresh
    outputs, inputs, rows, columns = old.shape
    edge = (fresh.shape[-1] - columns) // 2
    if fresh.shape[1] > inputs:
        fresh[:, inputs:] *= NEW_WEIGHT_SCALE
    corner = torch.zeros_like(fresh[:outputs, :inputs])
    corner[:, :, edge : edge + rows, edge : edge + columns] = old
    fresh[:outputs, :inputs] = corner
    return fresh
