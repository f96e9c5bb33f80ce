"""From trained networks to shipped ones: calibration, operating point, gate, figures, and the words of the cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from models import calibration, gate, networks, preprocess
from models.card import Card, OperatingPoint
from models.engine import COVID, Engine, Reading
from models.training import data, evaluate, shipping
from triage.domain.finding import ChestClass

VERSION = "0.1.0"
SENSITIVITY = 0.90
GATE_PERCENTILE = 99.5
DOUBT_PERCENTILE = 97.5
UNLIMITED = 1e30
"""Gate limit while the gate is still being fitted."""
SPLIT = (
    "By patient_id, five folds: folds 1-4 trained on, fold 0 held out for calibration, operating point, gate limits "
    "and the internal figures. The external role was evaluated once and chose nothing."
)
LICENCE = (
    "Weights trained only on images and masks whose stated terms have no non-commercial clause. Two sources have no "
    "formal licence text (Shenzhen images: public release by the NLM to the research community; some journal figures: "
    "the author says open); whoever sells a product should clear those two. Started from ImageNet weights of timm "
    "mobilenetv2_100 (Apache-2.0)."
)
LUNG_LIMITS = (
    "First trained weights, made in minutes; a later version is to replace them.",
    "Trained on children of 1-5 years and on severely ill adults only; well adults are seen through augmentation.",
    "Mask convention of V7: lung behind the heart and most of the heart's outline count as lung; manual masks that "
    "leave the heart out therefore agree less.",
    "A white-out lung may be cut short.",
)
CHEST_LIMITS = (
    "Not a diagnosis and no proof of absence: a result only moves a study forward in the reading list.",
    "First trained weights, made in minutes; a later version is to replace them.",
    "All COVID images but a few come from one hospital, all pneumonias from another: class and source are confounded, "
    "internal figures are therefore too good and say little of another hospital.",
    "Pneumonia labels were text-mined from reports (NIH ChestX-ray14) and are often wrong.",
    "Trained on 8-bit images of 384 pixels, some lossy, and read at 160 pixels across the lungs: detail below about "
    "4 mm is not seen.",
    "Adults only. COVID-19 images date from 2020; later variants and vaccinated patients were not seen.",
    "The gate knows what it was shown; an unfamiliar device or disease may pass it.",
)


def ship_lungs(net: nn.Module, cases: Sequence[data.Case], out: Path, training: Mapping[str, Any]) -> Card:
    """Write the lung weights with a card that has no figures yet."""
    card = Card(
        name="lungs",
        version=VERSION,
        weights_sha256="",
        architecture=networks.LUNG_ARCHITECTURE,
        preprocessing={
            "input": "whole image, squashed to a square, antialiased",
            "grey": "stretched from the 1st to the 99th percentile, then standardised",
            "mean": preprocess.MEAN,
            "sd": preprocess.SD,
        },
        data=tuple(data.summary(cases)),
        split=SPLIT,
        training=training,
        performance=(),
        limits=LUNG_LIMITS,
        licence=LICENCE,
    )
    return shipping.write(out, "lungs", net, card)


def ship_chest(
    net: nn.Module,
    cases: Sequence[data.Case],
    held_out: Sequence[data.Case],
    out: Path,
    training: Mapping[str, Any],
) -> Card:
    """
    Write the classifier with its gate, calibrated on *held_out*; `lungs` must already lie in *out*.

    Everything is measured with the stored (half precision) weights, through the engine that will serve.
    """
    card = Card(
        name="chest",
        version=VERSION,
        weights_sha256="",
        architecture=networks.CHEST_ARCHITECTURE,
        preprocessing={
            "input": "lungs' bounding box with margin, stretched to a square",
            "grey": "histogram equalised inside the lungs; one flat grey outside the slightly widened lungs",
            "margin": preprocess.MARGIN,
            "mean": preprocess.MEAN,
            "sd": preprocess.SD,
        },
        data=tuple(data.summary(cases)),
        split=SPLIT,
        training=training,
        performance=(),
        limits=CHEST_LIMITS,
        licence=LICENCE,
        gate_limit=UNLIMITED,
    )
    features: int = net.classifier.in_features  # type: ignore[union-attr,assignment]
    anything = gate.Familiarity(np.zeros((1, features)), np.ones((1, features)), np.ones((1, features)), 1.0)
    shipping.write(out, "chest", net, card, anything.tensors())
    engine = Engine.load(out)
    known = [
        (data.label_of(c), o.embedding)
        for c, o in zip(cases, evaluate.readings(engine, cases, "training images"), strict=True)
        if isinstance(o, Reading)
    ]
    familiarity = gate.Familiarity.fit(np.stack([e for _, e in known]), np.array([k for k, _ in known]))
    shipping.write(out, "chest", net, card, familiarity.tensors())
    outcomes = evaluate.readings(Engine.load(out), held_out, "held-out images")
    card = calibrated(card, held_out, outcomes)
    return shipping.write(out, "chest", net, card, familiarity.tensors())


def calibrated(card: Card, cases: Sequence[data.Case], outcomes: Sequence[evaluate.Outcome]) -> Card:
    """The card with temperature, operating point and limits from held-out outcomes."""
    rows = [(data.label_of(c), o) for c, o in zip(cases, outcomes, strict=True) if isinstance(o, Reading)]
    labels = np.array([k for k, _ in rows])
    logits = np.stack([o.logits for _, o in rows])
    temperature, bias = calibration.fit(logits, labels)
    covid = calibration.probabilities(logits, temperature, bias)[:, COVID]
    threshold = calibration.threshold_for_sensitivity(covid, labels == COVID, SENSITIVITY)
    outside = [o.activation_outside for k, o in rows if k == COVID and o.activation_outside is not None]
    patients = len({c.patient_id for c in cases if c.label == ChestClass.COVID})
    return replace(
        card,
        temperature=temperature,
        bias=(bias[0], bias[1], bias[2]),
        operating_points=(
            OperatingPoint(
                ChestClass.COVID,
                threshold,
                f"highest threshold with sensitivity of at least {SENSITIVITY:.2f} for COVID",
                f"held-out development fold 0: {int((labels == COVID).sum())} COVID images of {patients} patients",
            ),
        ),
        gate_limit=float(np.percentile([o.gate_score for _, o in rows], GATE_PERCENTILE)),
        activation_outside_limit=float(np.percentile(outside, DOUBT_PERCENTILE)),
    )
