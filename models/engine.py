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

from models import baseline, calibration, gate, networks, preprocess, runtimes
from models.card import Card, read, verified_weights
from models.contours import outlines
from triage.domain.eligibility import IntendedUse
from triage.domain.errors import Misconfigured, UnusableRadiograph
from triage.domain.finding import Assessment, ChestClass, Lungs, ModelIdentity, Observation
from triage.domain.imaging import Radiograph

WEIGHTS = Path(__file__).parent / "weights"
CLASSES = tuple(ChestClass)
COVID = CLASSES.index(ChestClass.COVID)
CONVENTION = "v7"
"""What counts as lung where the crop, the area and the share of the activation are made: the heart's shadow too."""
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
    """The kept lungs in the frame of `preprocess.squared`."""
    crop: preprocess.LungCrop = field(repr=False)
    statistics: Mapping[str, float] = field(repr=False)
    lungs: Mapping[str, npt.NDArray[np.float16]] = field(default_factory=dict, repr=False)
    """In the mask's frame, the lung probability by each mask convention that the network knows."""
    implausible: str | None = None
    """Why these are no two lungs; only where `Engine.read` was asked to go on despite it."""


class Engine:
    """The lung network, the classifier and their cards, ready to assess."""

    def __init__(
        self,
        lungs: runtimes.Run,
        chest: runtimes.Run,
        cards: Mapping[str, Card],
        identities: Mapping[str, ModelIdentity],
        familiarity: gate.Familiarity,
        runtime: str,
    ) -> None:
        self._lungs, self._chest = lungs, chest
        self._identities = dict(identities)
        self._familiarity = familiarity
        self.cards: Mapping[str, Card] = dict(cards)
        self.runtime = runtime
        """How the networks are run: one of `runtimes.NAMES`."""

    @classmethod
    def load(cls, folder: Path | None = None, *, threads: int | None = None, runtime: str = "auto") -> Engine:
        """
        Read `lungs` and `chest` (.json and .safetensors) of *folder*, by default those shipped in the package.

        Args:
            threads: of the processor; by default as many as PyTorch finds.
            runtime: one of `runtimes.NAMES`, or 'auto' for the fastest that is to be had.
        Raises:
            Misconfigured: a file is missing, the weights are not those the card names, or there is no such runtime.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        folder, runtime = folder or WEIGHTS, runtimes.chosen(runtime)
        runs, cards, identities = {}, {}, {}
        familiarity = None
        for name in ("lungs", "chest"):
            cards[name], identities[name] = read(folder / f"{name}.json")
            stored = safetensors.torch.load(verified_weights(folder / f"{name}.safetensors", cards[name]))
            if name == "chest":
                familiarity = gate.Familiarity.from_tensors(stored)
            net, side = loaded(cards[name], stored), int(cards[name].architecture["side"])
            runs[name] = runtimes.prepared(net, side, runtime, threads)
        if familiarity is None or cards["chest"].gate_limit is None:
            raise Misconfigured("the classifier's card has no gate limit")
        return cls(runs["lungs"], runs["chest"], cards, identities, familiarity, runtime)

    @property
    def classifier(self) -> ModelIdentity:
        """Which classifier weights speak."""
        return self._identities["chest"]

    @property
    def segmenter(self) -> ModelIdentity:
        """Which lung weights speak."""
        return self._identities["lungs"]

    @property
    def conventions(self) -> tuple[str, ...]:
        """The mask conventions that the lung network knows, in the order of its outputs."""
        return tuple(self.cards["lungs"].architecture.get("conventions", (CONVENTION,)))

    @property
    def view(self) -> preprocess.View:
        """What the classifier sees of a radiograph."""
        view: preprocess.View = self.cards["chest"].architecture.get("view", "lungs")
        return view

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

    def lung_probability(
        self, squares: Sequence[npt.NDArray[np.float32]], convention: str = CONVENTION
    ) -> list[npt.NDArray[np.float32]]:
        """
        Lung probability maps of pictures made by `preprocess.squared`, in the same frame.

        Raises:
            Misconfigured: the network was not trained on masks of this *convention*.
        """
        if convention not in self.conventions:
            raise Misconfigured(f"the lung network knows {', '.join(self.conventions)}, not {convention!r}")
        output = self.conventions.index(convention)
        return [several[output] for several in self._lung_probabilities(squares)]

    def _lung_probabilities(self, squares: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        """For each picture (conventions, rows, columns)."""
        side = int(self.cards["lungs"].architecture["side"])
        return _maps(self._lungs, squares, side)

    def read(
        self, pictures: Sequence[npt.NDArray[np.float32]], *, despite_implausible: bool = False
    ) -> list[Reading | UnusableRadiograph]:
        """
        What the networks say of each picture (rows, columns), or why there are no two lungs to look at.

        Args:
            despite_implausible: look at whatever the lung network found, as long as it found anything.
        """
        outcomes: list[Reading | UnusableRadiograph] = []
        for first in range(0, len(pictures), AT_ONCE):
            outcomes += self._read_batch(pictures[first : first + AT_ONCE], despite_implausible)
        return outcomes

    def _read_batch(
        self, pictures: Sequence[npt.NDArray[np.float32]], despite_implausible: bool
    ) -> list[Reading | UnusableRadiograph]:
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
        lungs = dict(zip(squares, self._lung_probabilities(list(squares.values())), strict=True))
        for i, square in squares.items():
            rows, columns = pictures[i].shape
            fields[i] = gate.lung_field(lungs[i][self.conventions.index(CONVENTION)], columns / rows)
            try:
                if fields[i].implausible is not None and not despite_implausible:
                    raise UnusableRadiograph("lungs-implausible", fields[i].implausible or "")
                crops[i] = preprocess.seen(square, fields[i].mask, side, self.view)
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
                    lungs=dict(zip(self.conventions, lungs[i].astype(np.float16), strict=True)),
                    implausible=fields[i].implausible,
                    crop=crop,
                    statistics=_statistics(pictures[i], squares[i], fields[i].mask),
                )
        return [outcomes[i] for i in range(len(pictures))]

    def _score(
        self, crops: Sequence[npt.NDArray[np.float32]]
    ) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """Logits, embedding and activation maps of each crop."""
        inputs = preprocess.standardised(torch.from_numpy(np.stack(crops))[:, None])
        logits, embedding, activation = self._chest(inputs)
        return list(zip(logits.double().numpy(), embedding.numpy(), activation.numpy(), strict=True))

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
            coordinates=tuple(round(float(x), 4) for x in baseline.projected(reading.embedding[None])[0]),
        )


def lung_maps(
    net: nn.Module,
    squares: Sequence[npt.NDArray[np.float32]],
    side: int,
    *,
    device: torch.device,
    half: bool,
    output: int = -1,
) -> list[npt.NDArray[np.float32]]:
    """
    A network's lung probability maps of pictures made by `preprocess.squared`, in the same frame; for training.

    Args:
        output: which of the network's mask conventions; the last is `CONVENTION` in every network made here.
    """

    def run(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            return (net(images.to(device).contiguous(memory_format=torch.channels_last)).float().cpu(),)

    return [several[output] for several in _maps(run, squares, side)]


def _maps(run: runtimes.Run, squares: Sequence[npt.NDArray[np.float32]], side: int) -> list[npt.NDArray[np.float32]]:
    """For each picture (outputs, rows, columns): the lung network's probabilities in the picture's frame."""
    maps: list[npt.NDArray[np.float32]] = []
    for first in range(0, len(squares), AT_ONCE):
        (logits,) = run(torch.cat([preprocess.to_lung_input(s, side) for s in squares[first : first + AT_ONCE]]))
        large = F.interpolate(logits, size=squares[first].shape, mode="bilinear", align_corners=False)
        maps += list(torch.sigmoid(large).numpy())
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
