"""Training of the chest classifier on lung crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import load_file
from torch import nn

from models import gate, networks, preprocess
from models.card import read
from models.engine import AT_ONCE, CLASSES, loaded, lung_maps
from models.training import augment, data, loop, transplant
from models.training.figures import auc
from triage.domain.errors import UnusableRadiograph

BATCH = 24
CACHED_SIDE = 192
SMOOTHING = 0.05


def train(
    cases: Sequence[data.Case], held_out: Sequence[data.Case], plan: loop.Plan, lungs: Path, start: Path | None
) -> nn.Module:
    """
    Train on the lung crops of *cases*; *held_out* is only looked at for the progress line.

    Args:
        lungs: folder with `lungs.json` and `lungs.safetensors`, which find the crops.
        start: ImageNet weights of `mobilenetv2_100` to start from, else random.
    """
    torch.manual_seed(plan.seed)
    side = int(networks.CHEST_ARCHITECTURE["side"])
    net = networks.build(networks.CHEST_ARCHITECTURE)
    if start is not None:
        backbone: nn.Module = net.backbone  # type: ignore[assignment]
        backbone.load_state_dict(transplant.from_mobilenet(backbone.state_dict(), start))
    kept, crops = cached(cases, lungs, plan.checkpoint.with_name("crops-train.npz"))
    kept_out, crops_out = cached(held_out, lungs, plan.checkpoint.with_name("crops-held-out.npz"))
    labels = torch.tensor([data.label_of(c) for c in kept])
    weights = balanced(kept)
    net = net.to(memory_format=torch.channels_last)

    def loss_of(net: nn.Module, generator: torch.Generator) -> torch.Tensor:
        chosen = torch.multinomial(weights, BATCH, replacement=True, generator=generator)
        images = drawn(crops[chosen].float() / 255, side, generator)
        targets = F.one_hot(labels[chosen], len(CLASSES)).float() * (1 - SMOOTHING) + SMOOTHING / len(CLASSES)
        images, targets = augment.mixup(images, targets, generator)
        out = net(preprocess.standardised(images).contiguous(memory_format=torch.channels_last))
        return F.cross_entropy(out.logits, targets)

    return loop.train(net, loss_of, plan, _looking_at(kept_out, crops_out, side))


def drawn(images: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """One augmented batch of crops; what lies outside the lungs stays grey."""
    theta = augment.geometry(len(images), generator, scale=1.15, aspect=1.12, degrees=8, shift=0.06)
    images = augment.warp(images - 0.5, theta) + 0.5
    images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    inside = ((images - 0.5).abs() > 0.004).float()
    images = augment.degrade(augment.light(images, generator, 0.6), generator)
    images = inside * images + (1 - inside) * 0.5
    hole = torch.randint(side // 8, side // 3, (2,), generator=generator)
    top, left = (int(torch.randint(0, side - int(h), (1,), generator=generator)) for h in hole)
    holed = torch.rand(len(images), generator=generator) < 0.4
    images[holed, :, top : top + int(hole[0]), left : left + int(hole[1])] = 0.5
    return images


def balanced(cases: Sequence[data.Case]) -> torch.Tensor:
    """Drawing weights: classes alike, and within a class each source by the square root of its images."""
    counts: dict[tuple[str, str], int] = {}
    for case in cases:
        counts[case.label, case.source] = counts.get((case.label, case.source), 0) + 1
    total = {label: sum(n**0.5 for (k, _), n in counts.items() if k == label) for label, _ in counts}
    return torch.tensor([counts[c.label, c.source] ** -0.5 / total[c.label] for c in cases], dtype=torch.float64)


def cached(cases: Sequence[data.Case], lungs: Path, store: Path) -> tuple[list[data.Case], torch.Tensor]:
    """The cases with plausible lungs and their (n, 1, side, side) uint8 crops, kept in *store* for the lung weights."""
    card, identity = read(lungs / "lungs.json")
    if store.exists():
        with np.load(store) as found:
            if str(found["weights"]) == identity.weights_sha256 and list(found["asked"]) == [c.image_id for c in cases]:
                usable = set(found["ids"].tolist())
                return [c for c in cases if c.image_id in usable], torch.from_numpy(found["crops"])
    net = loaded(card, load_file(lungs / "lungs.safetensors")).eval().to(memory_format=torch.channels_last)
    side = int(card.architecture["side"])
    kept: list[data.Case] = []
    crops: list[npt.NDArray[np.uint8]] = []
    for first in track(range(0, len(cases), AT_ONCE), "cutting out lungs"):
        some = cases[first : first + AT_ONCE]
        squares = [preprocess.squared(data.read_pixels(c.path)) for c in some]
        maps = lung_maps(net, squares, side, device=torch.device("cpu"), half=False)
        for case, square, probability in zip(some, squares, maps, strict=True):
            field = gate.lung_field(probability)
            try:
                crop = preprocess.to_lung_crop(square, field.mask, CACHED_SIDE)
            except UnusableRadiograph:
                continue
            if field.implausible is None:
                kept.append(case)
                crops.append((crop.image * 255).round().astype(np.uint8))
    stacked = np.stack(crops)[:, None]
    np.savez(
        store,
        weights=identity.weights_sha256,
        asked=[c.image_id for c in cases],
        ids=[c.image_id for c in kept],
        crops=stacked,
    )
    return kept, torch.from_numpy(stacked)


def _looking_at(cases: Sequence[data.Case], crops: torch.Tensor, side: int) -> Callable[[nn.Module], str | None]:
    labels = np.array([data.label_of(c) for c in cases])
    small = F.interpolate(crops.float() / 255, size=(side, side), mode="bilinear", antialias=True, align_corners=False)

    def look(net: nn.Module) -> str:
        net.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = torch.cat(
                [
                    net(preprocess.standardised(part).contiguous(memory_format=torch.channels_last)).logits
                    for part in torch.split(small, 32)
                ]
            )
        probability = torch.softmax(logits.float(), 1).numpy()
        areas = [auc(probability[:, k], labels == k) for k in range(len(CLASSES))]
        recalls = [float((probability[labels == k].argmax(1) == k).mean()) for k in range(len(CLASSES))]
        return (
            "held-out AUC " + " ".join(f"{a:.3f}" for a in areas) + " recall " + " ".join(f"{r:.2f}" for r in recalls)
        )

    return look
