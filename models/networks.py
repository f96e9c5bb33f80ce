"""The two networks: a U-Net that finds the lungs and a classifier that reads them; built by the card's architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from torch import nn

from models.plain_unet import PlainUNet
from triage.domain.errors import Misconfigured
from triage.domain.finding import ChestClass

CHEST_ARCHITECTURE: Mapping[str, Any] = {"name": "chest", "backbone": "efficientnet_lite1"}
LEAST_VARIANCE = 1e-6
"""Added to a map's variance: a flat map has a spread, and a slope."""


class ChestOutput(NamedTuple):
    """What the classifier says of a batch of n images."""

    logits: torch.Tensor
    """(n, 3), in `ChestClass` order."""
    embedding: torch.Tensor
    """(n, features): what the last layer reads, each feature map's mean and, where several are read, its spread."""
    activation: torch.Tensor
    """(n, 3, rows, columns): class activation maps, each place's share in the logit."""


class Chest(nn.Module):
    """
    A timm backbone with one linear layer over its pooled feature maps (Zhou et al. 2016, CAM).

    Args:
        backbone: timm's name of it.
        reads: the maps that are read, as timm's `out_indices` numbers them (strides 2, 4, 8, 16, 32), each by its mean
            and its spread, the backbone ending with the last of them; by default the final map alone, by its mean.
    """

    def __init__(self, backbone: str, reads: Sequence[int] = ()) -> None:
        super().__init__()
        self.reads = tuple(reads)
        if self.reads:
            early: Any = timm.create_model(
                backbone, pretrained=False, in_chans=1, features_only=True, out_indices=self.reads
            )
            early.blocks = early.blocks[: early.feature_info.get_dicts()[-1]["stage"]]  # what follows is not read
            self.backbone, features = early, 2 * sum(early.feature_info.channels())
        else:
            self.backbone = timm.create_model(backbone, pretrained=False, in_chans=1, num_classes=0, global_pool="")
            features = self.backbone.num_features
        self.dropout = nn.Dropout(0.3)
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
        features = self.backbone(images)
        with torch.autocast(images.device.type, enabled=False):  # the last sums in full precision
            if self.reads:
                return self._of_maps([m.float() for m in features])
            features = features.float()
            embedding = features.mean(dim=(2, 3))
            logits = self.classifier(self.dropout(embedding))
            activation = torch.einsum("nfrc,kf->nkrc", features, self.classifier.weight)
        return ChestOutput(logits, embedding, activation)

    def _of_maps(self, maps: Sequence[torch.Tensor]) -> ChestOutput:
        """
        Mean and spread of every map, and each place's share in the logit they make.

        A spread is the mean over all places of (value - mean)² / spread, so a place's share in it is exact as its share
        in a mean is. The bias is spread evenly: the activation's mean is the logit.
        """
        means = [m.mean(dim=(2, 3), keepdim=True) for m in maps]
        centred = [(m - mean).square() for m, mean in zip(maps, means, strict=True)]
        spreads = [torch.sqrt(c.mean(dim=(2, 3), keepdim=True) + LEAST_VARIANCE) for c in centred]
        parts = [*means, *spreads]
        embedding = torch.cat([part.flatten(1) for part in parts], dim=1)
        logits = self.classifier(self.dropout(embedding))
        weights = torch.split(self.classifier.weight, [part.shape[1] for part in parts], dim=1)
        shares = [*maps, *(c / s for c, s in zip(centred, spreads, strict=True))]
        rows, columns = maps[-1].shape[2:]
        activation = self.classifier.bias[None, :, None, None].expand(len(logits), -1, rows, columns)
        for share, weight in zip(shares, weights, strict=True):
            of_place = torch.einsum("nfrc,kf->nkrc", share, weight)
            activation = activation + F.adaptive_avg_pool2d(of_place, (rows, columns))
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
            reads = architecture.get("reads", ())
            members = [Chest(architecture["backbone"], reads) for _ in range(int(architecture.get("members", 1)))]
            return ChestEnsemble(members) if len(members) > 1 else members[0]
        case name:
            raise Misconfigured(f"no network is called {name!r}")
