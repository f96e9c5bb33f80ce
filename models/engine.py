"""Radiographs in, assessments or refusals out: both networks, their cards and the pixel gate as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from models import calibration, gate, networks, preprocess
from models.card import Card, read, verified_weights
from models.contours import outlines
from triage.domain.eligibility import IntendedUse
from triage.domain.errors import Misconfigured, UnusableRadiograph
from triage.domain.finding import Assessment, ChestClass, Lungs, ModelIdentity, Observation
from triage.domain.imaging import Radiograph

WEIGHTS = Path(__file__).parent / "weights"
CLASSES = tuple(ChestClass)
COVID = CLASSES.index(ChestClass.COVID)
AT_ONCE = 16
"""Images in one pass through a network."""


@dataclass(frozen=True)
class Reading:
    """Everything the networks say of one picture, before the out-of-distribution limit is applied."""

    logits: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    embedding: npt.NDArray[np.float32] = field(repr=False)
    gate_score: float
    activation: npt.NDArray[np.float32] = field(repr=False)
    """(3, rows, columns): class activation maps over the crop."""
    activation_outside: float | None
    mask: npt.NDArray[np.bool_] = field(repr=False)
    crop: preprocess.LungCrop = field(repr=False)
    statistics: Mapping[str, float] = field(repr=False)


class Engine:
    """The lung network, the classifier and their cards, ready to assess."""

    def __init__(
        self,
        lungs: nn.Module,
        chest: nn.Module,
        cards: Mapping[str, Card],
        identities: Mapping[str, ModelIdentity],
        familiarity: gate.Familiarity,
    ) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._half = self._device.type == "cuda" or _cpu_has_bf16()
        self._lungs = lungs.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._chest = chest.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._identities = dict(identities)
        self._familiarity = familiarity
        self.cards: Mapping[str, Card] = dict(cards)

    @classmethod
    def load(cls, folder: Path | None = None, *, threads: int | None = None) -> Engine:
        """
        Read `lungs` and `chest` (.json and .safetensors) of *folder*, by default those shipped in the package.

        Raises:
            Misconfigured: a file is missing or the weights are not those the card names.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        folder = folder or WEIGHTS
        nets, cards, identities = {}, {}, {}
        familiarity = None
        for name in ("lungs", "chest"):
            cards[name], identities[name] = read(folder / f"{name}.json")
            stored = safetensors.torch.load(verified_weights(folder / f"{name}.safetensors", cards[name]))
            if name == "chest":
                familiarity = gate.Familiarity.from_tensors(stored)
            nets[name] = loaded(cards[name], stored)
        if familiarity is None or cards["chest"].gate_limit is None:
            raise Misconfigured("the classifier's card has no gate limit")
        return cls(nets["lungs"], nets["chest"], cards, identities, familiarity)

    @property
    def classifier(self) -> ModelIdentity:
        """Which classifier weights speak."""
        return self._identities["chest"]

    @property
    def segmenter(self) -> ModelIdentity:
        """Which lung weights speak."""
        return self._identities["lungs"]

    @property
    def intended_use(self) -> IntendedUse:
        """The part of the classifier's card that the header gate enforces."""
        return self.cards["chest"].intended_use

    def assess(self, radiographs: Sequence[Radiograph], at: datetime) -> list[Assessment | UnusableRadiograph]:
        """
        Assess a batch.

        Args:
            radiographs: any number, of any size.
            at: the instant the assessments carry.
        Returns:
            One outcome for each, in order; a refusal ('too-small', 'blank', 'lungs-implausible',
            'out-of-distribution') stands where the image cannot be assessed.
        """
        readings = self.read([r.pixels for r in radiographs])
        return [
            outcome if isinstance(outcome, UnusableRadiograph) else self._judged(radiograph, outcome, at)
            for radiograph, outcome in zip(radiographs, readings, strict=True)
        ]

    def activation(self, radiograph: Radiograph, code: ChestClass = ChestClass.COVID) -> npt.NDArray[np.float32]:
        """
        The class activation map over the whole image.

        Returns:
            (rows, columns) float32 in [0, 1], as large as the pixels: 1 where *code* is most active, 0 outside the
            crop the classifier saw and where nothing speaks for the class.
        Raises:
            UnusableRadiograph: no lungs to look at.
        """
        (reading,) = self.read([radiograph.pixels])
        if isinstance(reading, UnusableRadiograph):
            raise reading
        rows, columns = radiograph.pixels.shape
        top, left, bottom, right = reading.crop.box
        r0, r1 = round(top * rows), max(round(bottom * rows), round(top * rows) + 1)
        c0, c1 = round(left * columns), max(round(right * columns), round(left * columns) + 1)
        shown = np.zeros((rows, columns), dtype=np.float32)
        shown[r0:r1, c0:c1] = _enlarged(reading.activation[CLASSES.index(code)], (r1 - r0, c1 - c0))
        shown = np.maximum(shown, 0)
        return shown / max(float(shown.max()), 1e-6) if shown.max() > 0 else shown

    def lung_probability(self, squares: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        """Lung probability maps of pictures made by `preprocess.squared`, in the same frame."""
        side = int(self.cards["lungs"].architecture["side"])
        return lung_maps(self._lungs, squares, side, device=self._device, half=self._half)

    def read(self, pictures: Sequence[npt.NDArray[np.float32]]) -> list[Reading | UnusableRadiograph]:
        """What the networks say of each picture (rows, columns), or why there are no two lungs to look at."""
        outcomes: list[Reading | UnusableRadiograph] = []
        for first in range(0, len(pictures), AT_ONCE):
            outcomes += self._read_batch(pictures[first : first + AT_ONCE])
        return outcomes

    def _read_batch(self, pictures: Sequence[npt.NDArray[np.float32]]) -> list[Reading | UnusableRadiograph]:
        outcomes: dict[int, Reading | UnusableRadiograph] = {}
        squares: dict[int, npt.NDArray[np.float32]] = {}
        for i, pixels in enumerate(pictures):
            try:
                preprocess.check_usable(pixels)
                squares[i] = preprocess.squared(pixels)
            except UnusableRadiograph as refusal:
                outcomes[i] = refusal
        fields: dict[int, gate.LungField] = {}
        crops: dict[int, preprocess.LungCrop] = {}
        side = int(self.cards["chest"].architecture["side"])
        for (i, square), probability in zip(
            squares.items(), self.lung_probability(list(squares.values())), strict=True
        ):
            fields[i] = gate.lung_field(probability)
            try:
                if fields[i].implausible is not None:
                    raise UnusableRadiograph("lungs-implausible", fields[i].implausible or "")
                crops[i] = preprocess.to_lung_crop(square, fields[i].mask, side)
            except UnusableRadiograph as refusal:
                outcomes[i] = refusal
        if crops:
            scored = self._score([c.image for c in crops.values()])
            for (i, crop), (logits, embedding, activation) in zip(crops.items(), scored, strict=True):
                card = self.cards["chest"]
                outcomes[i] = Reading(
                    logits=logits,
                    probabilities=calibration.probabilities(logits[None], card.temperature, card.bias)[0],
                    embedding=embedding,
                    gate_score=float(self._familiarity.score(embedding[None])[0]),
                    activation=activation,
                    activation_outside=share_outside(activation[COVID], crop.lungs),
                    mask=fields[i].mask,
                    crop=crop,
                    statistics=_statistics(pictures[i], squares[i], fields[i].mask),
                )
        return [outcomes[i] for i in range(len(pictures))]

    def _score(
        self, crops: Sequence[npt.NDArray[np.float32]]
    ) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """Logits, embedding and activation maps of each crop."""
        inputs = preprocess.standardised(torch.from_numpy(np.stack(crops))[:, None])
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            out = self._chest(inputs.to(self._device).contiguous(memory_format=torch.channels_last))
        logits = out.logits.double().cpu().numpy()
        return list(zip(logits, out.embedding.float().cpu().numpy(), out.activation.float().cpu().numpy(), strict=True))

    def _judged(self, radiograph: Radiograph, reading: Reading, at: datetime) -> Assessment | UnusableRadiograph:
        card = self.cards["chest"]
        limit = card.gate_limit if card.gate_limit is not None else float("inf")
        if reading.gate_score > limit:
            return UnusableRadiograph("out-of-distribution", f"score {reading.gate_score:.2f}, limit {limit:.2f}")
        outside, most = reading.activation_outside, card.activation_outside_limit
        return Assessment(
            study_instance_uid=radiograph.facts.study_instance_uid,
            series_instance_uid=radiograph.facts.series_instance_uid,
            sop_instance_uid=radiograph.facts.sop_instance_uid,
            observations=tuple(
                Observation(code, float(p), card.threshold_of(code))
                for code, p in zip(CLASSES, reading.probabilities, strict=True)
            ),
            lungs=Lungs(outlines(reading.mask), float(reading.mask.mean())),
            gate_score=reading.gate_score,
            gate_limit=limit,
            classifier=self.classifier,
            segmenter=self.segmenter,
            assessed_at=at,
            activation_outside=outside,
            is_doubtful=outside is not None and most is not None and outside > most,
            statistics=reading.statistics,
        )


def lung_maps(
    net: nn.Module, squares: Sequence[npt.NDArray[np.float32]], side: int, *, device: torch.device, half: bool
) -> list[npt.NDArray[np.float32]]:
    """The lung network's probability maps of pictures made by `preprocess.squared`, in the same frame."""
    maps: list[npt.NDArray[np.float32]] = []
    for first in range(0, len(squares), AT_ONCE):
        inputs = torch.cat([preprocess.to_lung_input(s, side) for s in squares[first : first + AT_ONCE]])
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = net(inputs.to(device).contiguous(memory_format=torch.channels_last))
        large = F.interpolate(logits.float(), size=squares[first].shape, mode="bilinear", align_corners=False)
        maps += list(torch.sigmoid(large)[:, 0].cpu().numpy())
    return maps


def loaded(card: Card, stored: Mapping[str, torch.Tensor]) -> nn.Module:
    """The card's network with its state dict; tensors of the gate are left aside."""
    net = networks.build(card.architecture)
    try:
        net.load_state_dict({k: v for k, v in stored.items() if not k.startswith("gate.")})
    except RuntimeError as exc:
        raise Misconfigured(f"{card.name}: the weights do not fit the card's architecture") from exc
    return net


def share_outside(activation: npt.NDArray[np.float32], lungs: npt.NDArray[np.float32]) -> float | None:
    """Share of the positive activation outside the lungs, or None where nothing is positive."""
    positive = np.maximum(_enlarged(activation, lungs.shape), 0)
    total = float(positive.sum())
    return float((positive * (1 - lungs)).sum()) / total if total > 0 else None


def _enlarged(small: npt.NDArray[np.float32], size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    image = torch.from_numpy(np.ascontiguousarray(small, dtype=np.float32))[None, None]
    large: npt.NDArray[np.float32] = F.interpolate(image, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
    return large


def _statistics(
    pixels: npt.NDArray[np.float32], square: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Of the pixels as they came, for the audit's drift watch; the lungs' on the stretched picture."""
    p01, p50, p99 = np.percentile(pixels, (1, 50, 99))
    inside = square[mask]
    return {
        "mean": float(pixels.mean()),
        "sd": float(pixels.std()),
        "p01": float(p01),
        "p50": float(p50),
        "p99": float(p99),
        "lung_mean": float(inside.mean()),
        "lung_sd": float(inside.std()),
    }


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; emulation would be slower than fp32."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())
