"""The two networks: a U-Net that finds the lungs and a classifier that reads them; built by the card's architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from models.plain_unet import PlainUNet
from triage.domain.errors import Misconfigured
from triage.domain.finding import ChestClass

CHEST_ARCHITECTURE: Mapping[str, Any] = {"name": "chest", "backbone": "efficientnet_lite1", "side": 160}


class ChestOutput(NamedTuple):
    """What the classifier says of a batch of n images."""

    logits: torch.Tensor
    """(n, 3), in `ChestClass` order."""
    embedding: torch.Tensor
    """(n, features): the pooled last feature map."""
    activation: torch.Tensor
    """(n, 3, rows, columns): class activation maps, the last feature map weighed by each class's weights."""


class Chest(nn.Module):
    """A timm backbone with one linear layer over its pooled last feature map (Zhou et al. 2016, CAM)."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, pretrained=False, in_chans=1, num_classes=0, global_pool="")
        self.dropout = nn.Dropout(0.3)
        features: int = self.backbone.num_features  # type: ignore[assignment]
        self.classifier = nn.Linear(features, len(ChestClass))
        self.holds_statistics = False

    def train(self, mode: bool = True) -> Chest:
        """Training mode; where it *holds_statistics*, normalisation goes on with the means and variances it has."""
        super().train(mode)
        if self.holds_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: torch.Tensor) -> ChestOutput:
        """Score (n, 1, side, side) prepared images."""
        features = self.backbone(images).float()
        with torch.autocast(images.device.type, enabled=False):  # the last sums in full precision
            embedding = features.mean(dim=(2, 3))
            logits = self.classifier(self.dropout(embedding))
            activation = torch.einsum("nfrc,kf->nkrc", features, self.classifier.weight)
        return ChestOutput(logits, embedding, activation)


class ChestEnsemble(nn.Module):
    """
    Several classifiers of one kind, trained apart, that speak as one.

    Logits and activation are the members' means (calibration is a straight line, so the mean of calibrated logits is
    the calibrated mean). The embedding is all members' side by side: their features have nothing in common that could
    be averaged, and the gate, which whitens whatever it is given, then sees what is strange to any of them.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: torch.Tensor) -> ChestOutput:
        """Score (n, 1, side, side) prepared images."""
        outputs = [member(images) for member in self.members]
        return ChestOutput(
            torch.stack([o.logits for o in outputs]).mean(0),
            torch.cat([o.embedding for o in outputs], dim=1),
            torch.stack([o.activation for o in outputs]).mean(0),
        )


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """The untrained network that a card's *architecture* names."""
    outputs = len(architecture.get("conventions", ("v7",)))
    match architecture.get("name"):
        case "unet":
            net: nn.Module = smp.Unet(
                architecture["encoder"],
                encoder_weights=None,
                in_channels=1,
                classes=outputs,
                decoder_channels=list(architecture["decoder_channels"]),
            )
            return net
        case "plain-unet":
            a = architecture
            return PlainUNet(a["depth"], a["width"], a["convolutions"], a["dropout"], outputs)
        case "chest":
            members = [Chest(architecture["backbone"]) for _ in range(int(architecture.get("members", 1)))]
            return ChestEnsemble(members) if len(members) > 1 else members[0]
        case name:
            raise Misconfigured(f"no network is called {name!r}")
