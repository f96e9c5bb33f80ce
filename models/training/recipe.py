"""How a classifier is trained: augmentation, input, start and labels, each a choice the experiments compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from models import networks
from models.preprocess import View
from models.training import augment

Augmentation = Literal["none", "usual", "mixup", "ricap", "combined", "strong"]
Tuberculosis = Literal["pneumonia", "abnormal", "none"]
TUBERCULOSIS: tuple[Tuberculosis, ...] = ("pneumonia", "abnormal", "none")
AUGMENTATIONS: tuple[Augmentation, ...] = ("none", "usual", "mixup", "ricap", "combined", "strong")


@dataclass(frozen=True)
class Recipe:
    """
    One way to train the classifier.

    Attributes:
        augmentation: none; usual (geometry, light, blur, noise, holes); mixup or RICAP alone; combined: usual, then
            mixup or RICAP by turns, as in Nishio et al. 2020; strong: combined, with drawn leads and tubes and with
            sharpness and grain varied far more.
        view: what the classifier sees of a picture, as `preprocess.View` says.
        tuberculosis: what is said of Shenzhen's tuberculosis images. Without them (none) that source *is* normal. They
            are no pneumonia of the usual kind: abnormal says only that they are not normal and leaves open what else.
        anchor: how strongly the embedding is held near that of the frozen ImageNet network which it started from
            (distillation as a regulariser, Li and Hoiem 2016): features that serve many pictures, not one hospital.
        licensed: only images whose written terms permit commercial use.
        start: ImageNet weights of MobileNetV2, which the network contains (`transplant`), or random.
        head: fresh, or fitted: the last layer begins as a strongly penalised linear reader of the untouched
            features, and the statistics of normalisation stay ImageNet's, so that training bends good features
            instead of following a random head away from them (Kumar et al. 2022).
        penalty: of that linear reader.
        reads: which feature maps the last layer reads, as `networks.Chest` says; () is the final map alone.
        frozen: stem and so many of the first stages stay as ImageNet left them; only where the head is fitted. What
            they see, edges and grain, is where hospitals differ most, and two thirds of a step's time is theirs.
        kept: share of the starting weights in the final ones, a straight line between both (Wortsman et al. 2022).
    """

    augmentation: Augmentation = "combined"
    view: View = "whole"
    tuberculosis: Tuberculosis = "abnormal"
    licensed: bool = False
    start: Literal["imagenet", "random"] = "imagenet"
    side: int = 192
    batch: int = 32
    smoothing: float = 0.05
    learning_rate: float = 4e-4
    anchor: float = 0.0
    head: Literal["fresh", "fitted"] = "fitted"
    penalty: float = 10.0
    reads: tuple[int, ...] = ()
    frozen: int = 3
    kept: float = 0.75

    @property
    def architecture(self) -> Mapping[str, Any]:
        """What the card says and `networks.build` takes."""
        reads = {"reads": list(self.reads)} if self.reads else {}
        return {**networks.CHEST_ARCHITECTURE, "side": self.side, "view": self.view, **reads}

    def drawn(
        self, images: torch.Tensor, labels: torch.Tensor, classes: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        One batch as the network sees it.

        Args:
            images: (n, 1, rows, columns) in [0, 1], cached crops.
            labels: (n,) class indices; *classes* itself says: any class but the first.
        Returns:
            (n, 1, side, side) pictures and their (n, classes + 1) targets, which sum to 1 (see `disagreement`).
        """
        targets = F.one_hot(labels, classes + 1).float() * (1 - self.smoothing)
        targets[:, :classes] += self.smoothing / classes
        if self.augmentation in ("none", "mixup", "ricap"):
            images = resized(images, self.side)
        else:
            strong = self.augmentation == "strong"
            images = usual(images, self.side, generator, grey_outside=self.view == "lungs", strong=strong)
        by_turns = self.augmentation in ("combined", "strong")
        first = bool(torch.rand(1, generator=generator) < 0.5)
        if self.augmentation == "mixup" or (by_turns and first):
            return augment.mixup(images, targets, generator)
        if self.augmentation == "ricap" or by_turns:
            return augment.ricap(images, targets, generator)
        return images, targets


def disagreement(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """
    Mean cross-entropy of (n, classes) *logits* with targets that need not name a class.

    Args:
        targets: (n, classes + 1), rows sum to 1; the last column is what is known to be any class but the first.
    """
    said = torch.log_softmax(logits, 1)
    not_first = torch.logsumexp(said[:, 1:], 1, keepdim=True)
    return -(targets * torch.cat([said, not_first], 1)).sum(1).mean()


def usual(
    images: torch.Tensor, side: int, generator: torch.Generator, *, grey_outside: bool, strong: bool = False
) -> torch.Tensor:
    """Geometry, light, blur, noise and one hole; what lies outside the lungs stays grey where it was."""
    theta = augment.geometry(len(images), generator, scale=1.15, aspect=1.12, degrees=8, shift=0.06)
    images = resized(augment.warp(images - 0.5, theta) + 0.5, side)
    inside = ((images - 0.5).abs() > 0.004).float() if grey_outside else torch.ones_like(images)
    if strong:
        images = augment.devices(images, generator)
        images = augment.degrade(augment.degrade(images, generator, 0.2), generator, 0.2)
    images = augment.degrade(augment.light(images, generator, 1.0 if strong else 0.6), generator)
    images = inside * images + (1 - inside) * 0.5
    hole = torch.randint(side // 8, side // 3, (2,), generator=generator)
    top, left = (int(torch.randint(0, side - int(h), (1,), generator=generator)) for h in hole)
    holed = torch.rand(len(images), generator=generator) < 0.4
    images[holed, :, top : top + int(hole[0]), left : left + int(hole[1])] = 0.5
    return images


def resized(images: torch.Tensor, side: int) -> torch.Tensor:
    """(n, 1, side, side), antialiased."""
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
