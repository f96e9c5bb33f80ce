"""Writing a trained network and its card, so that a reader never sees one half without the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from models.card import Card, read


def write(folder: Path, name: str, net: nn.Module, card: Card, extra: Mapping[str, torch.Tensor] | None = None) -> Card:
    """Store *net* in half precision with *extra* tensors in full, and *card* with their digest; returns that card."""
    tensors = {k: _half(v) for k, v in net.state_dict().items()} | dict(extra or {})
    stored = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()})
    return write_bytes(folder, name, stored, card)


def write_bytes(folder: Path, name: str, stored: bytes, card: Card) -> Card:
    """Store finished weights and the card that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    card = replace(card, weights_sha256=hashlib.sha256(stored).hexdigest())
    partial_weights, partial_card = folder / f"{name}.weights.partial", folder / f"{name}.card.partial"
    partial_weights.write_bytes(stored)
    partial_card.write_text(card.to_json(), encoding="utf-8")
    partial_weights.replace(folder / f"{name}.safetensors")
    partial_card.replace(folder / f"{name}.json")
    return card


def with_figures(
    folder: Path, name: str, figures: Sequence[Mapping[str, Any]], curves: Mapping[str, Any] | None = None
) -> Card:
    """Rewrite a card with *figures* and, where given, *curves*; the weights stay as they are."""
    card, _ = read(folder / f"{name}.json")
    stored = (folder / f"{name}.safetensors").read_bytes()
    card = replace(card, performance=tuple(figures), curves=card.curves if curves is None else curves)
    return write_bytes(folder, name, stored, card)


def _half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().half() if tensor.is_floating_point() else tensor.detach().cpu()
