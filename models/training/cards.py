"""From trained networks to shipped ones: calibration, operating point, gate, figures, and the words of the cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from models import calibration, gate, preprocess
from models.card import Card, OperatingPoint
from models.engine import COVID, Engine, Reading
from models.training import data, evaluate, shipping
from models.training.recipe import Recipe
from triage.domain.finding import ChestClass

VERSION = "0.3.0"
SENSITIVITY = 0.90
DOUBT_PERCENTILE = 97.5
UNLIMITED = 1e30
"""Gate limit while the gate is still being fitted."""
HELD_OUT = "held-out development fold 0"
SPLIT = (
    "By patient_id, five folds: folds 1-4 trained on, fold 0 held out for calibration, operating point, gate limits "
    "and the internal figures. The external role chose nothing; every look at it is in the checked-in ledger "
    "docs/models/external-validation-ledger.jsonl."
)
LUNG_PREPROCESSING: Mapping[str, Any] = {
    "input": "whole image, squashed to a square, antialiased",
    "grey": "stretched from the 1st to the 99th percentile, then standardised",
    "mean": preprocess.MEAN,
    "sd": preprocess.SD,
}
SEEN: Mapping[str, Mapping[str, Any]] = {
    "lungs": {
        "input": "lungs' bounding box with margin, stretched to a square",
        "grey": "histogram equalised inside the lungs; one flat grey outside the slightly widened lungs",
        "margin": preprocess.MARGIN,
    },
    "box": {
        "input": "lungs' bounding box with a wide margin, stretched to a square",
        "grey": "stretched from the 1st to the 99th percentile of the whole image, then standardised",
        "margin": preprocess.BOX_MARGIN,
    },
    "whole": {
        "input": "the whole picture, squashed to a square",
        "grey": "stretched from the 1st to the 99th percentile, then standardised",
    },
}
"""What the classifier is given, by view."""
LUNG_LIMITS = (
    "Two mask conventions, one output each: V7's counts lung behind the heart and most of the heart's outline, the "
    "manual one leaves heart and mediastinum out. The gates and the drawn outline use V7's.",
    "V7's was learnt from children of 1-5 years and a few severely ill adults, the manual one from one hospital's "
    "upright adults: well adults by V7's and severely ill ones by the manual convention are seen through augmentation.",
    "A white-out lung may be cut short.",
)
LICENSED_LUNG_LIMITS = (
    "Trained on children of 1-5 years and on severely ill adults only; well adults are seen through augmentation.",
    "Mask convention of V7: lung behind the heart and most of the heart's outline count as lung; manual masks that "
    "leave the heart out therefore agree less.",
    LUNG_LIMITS[-1],
)


def chest_limits(cases: Sequence[data.Case], side: int, view: str = "box") -> tuple[str, ...]:
    """What a classifier trained on *cases*, reading *view* at *side* pixels, cannot be trusted with."""
    across, width = ("the picture", 400) if view == "whole" else ("the lungs", 320)
    said = [
        "Not a diagnosis and no proof of absence: a result only moves a study forward in the reading list.",
        "All COVID images but a few come from one hospital, all pneumonias from another: class and source are "
        "confounded, internal figures are therefore too good and say little of another hospital.",
        "Pneumonia labels were text-mined from reports (NIH ChestX-ray14) and are often wrong.",
        f"Trained on 8-bit images of 384 pixels, some lossy, and read at {side} pixels across {across}: detail below "
        f"about {2 * width / side:.0f} mm is not seen.",
        "Adults only. COVID-19 images date from 2020; later variants and vaccinated patients were not seen.",
        "The gate knows what it was shown; an unfamiliar device or disease may pass it.",
    ]
    if any(c.label == "other" for c in cases):
        said.insert(
            3,
            "Tuberculosis (Shenzhen) was shown in training as abnormal, whichever class: "
            "the network has no class for it.",
        )
    if view == "whole":
        said.insert(
            2,
            "It sees the whole picture: borders, letters and tubes can speak, and greys set the level. On the external "
            "hospital few pneumonias are recognised, most are called COVID or normal: trust the ranking and the COVID "
            "flag, not the most probable class.",
        )
    return tuple(said)


def licence(cases: Sequence[data.Case], training: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether weights trained on *cases*, from where *training* says they started, may be sold; and in words why."""
    against = sorted({f"{c.source} ({c.licence_class})" for c in cases if c.licence_class not in data.COMMERCIAL})
    if against:
        said = f"NOT for commercial use: trained also on data without written permission of it: {', '.join(against)}."
    else:
        said = "Trained only on images and masks whose written terms permit commercial use."
    start = str(training.get("started_from", "random weights"))
    if start.startswith("mobilenetv2_100"):
        start = "ImageNet weights of timm mobilenetv2_100 (Apache-2.0)"
    return not against, f"{said} Started from {start}."


def described(name: str, cases: Sequence[data.Case], training: Mapping[str, Any], **rest: Any) -> Card:
    """A card without figures; its version is the training's."""
    permitted, words = licence(cases, training)
    return Card(
        name=name,
        version=str(training.get("version", VERSION)),
        weights_sha256="",
        data=tuple(data.summary(cases)),
        split=SPLIT,
        training=training,
        performance=(),
        licence=words,
        commercial_use=permitted,
        **rest,
    )


def ship_lungs(
    net: nn.Module,
    cases: Sequence[data.Case],
    out: Path,
    training: Mapping[str, Any],
    *,
    name: str = "lungs",
    architecture: Mapping[str, Any],
    preprocessing: Mapping[str, Any] = LUNG_PREPROCESSING,
    limits: Sequence[str] | None = None,
) -> Card:
    """Write the lung weights *name* ("lungs", or "lungs-baseline") with a card that has no figures yet."""
    if limits is None:
        limits = LUNG_LIMITS if "manual" in architecture["conventions"] else LICENSED_LUNG_LIMITS
    card = described(
        name,
        cases,
        training,
        architecture=architecture,
        preprocessing=preprocessing,
        limits=tuple(limits),
    )
    return shipping.write(out, name, net, card)


def ship_chest(
    net: nn.Module,
    cases: Sequence[data.Case],
    held_out: Sequence[data.Case],
    out: Path,
    training: Mapping[str, Any],
    *,
    limits: Sequence[str] | None = None,
) -> Card:
    """
    Write the classifier with its gate, calibrated on *held_out*; `lungs` must already lie in *out*.

    Everything is measured with the stored (half precision) weights, through the engine that will serve.

    Args:
        training: with the recipe, whose side and view the card's architecture takes.
        limits: by default those of `chest_limits`.
    """
    recipe = training["recipe"]
    architecture = Recipe(**recipe).architecture
    preprocessing = {**SEEN[recipe["view"]], "mean": preprocess.MEAN, "sd": preprocess.SD}
    card = described(
        "chest",
        cases,
        training,
        architecture=architecture,
        preprocessing=preprocessing,
        limits=chest_limits(cases, recipe["side"], recipe["view"]) if limits is None else tuple(limits),
        gate_limit=UNLIMITED,
    )
    features: int = net.classifier.in_features  # type: ignore[union-attr,assignment]
    anything = gate.Familiarity(np.zeros((1, features)), np.ones((1, features)), np.ones((1, features)), 1.0)
    shipping.write(out, "chest", net, card, anything.tensors())
    engine = Engine.load(out)
    known = [
        (data.label_of(c), o.embedding, c.source)
        for c, o in zip(cases, evaluate.readings(engine, cases, "training images"), strict=True)
        if isinstance(o, Reading)
    ]
    embeddings, labels = np.stack([e for _, e, _ in known]), np.array([k for k, _, _ in known])
    familiarity = gate.Familiarity.fit(embeddings, labels)
    shipping.write(out, "chest", net, card, familiarity.tensors())
    outcomes = evaluate.readings(Engine.load(out), held_out, "held-out images")
    asked = [(c.source, o.embedding) for c, o in zip(held_out, outcomes, strict=True) if isinstance(o, Reading)]
    strangers = gate.left_out(
        embeddings, labels, [s for _, _, s in known], np.stack([e for _, e in asked]), [s for s, _ in asked]
    )
    card = calibrated(card, held_out, outcomes, strangers)
    return shipping.write(out, "chest", net, card, familiarity.tensors())


def calibrated(
    card: Card,
    cases: Sequence[data.Case],
    outcomes: Sequence[evaluate.Outcome],
    strangers: Mapping[str, gate.LeftOut] | None = None,
    on: str = HELD_OUT,
) -> Card:
    """
    The card with temperature, bias, operating point and limits from outcomes of cases that were not trained *on*.

    Args:
        strangers: what `gate.left_out` found; without it no source's strangeness widens the gate's limit.
    """
    rows = [(data.label_of(c), o) for c, o in zip(cases, outcomes, strict=True) if isinstance(o, Reading)]
    labels = np.array([k for k, _ in rows])
    temperature, bias = calibration.fit(np.stack([o.logits for _, o in rows]), labels)
    outside = [o.activation_outside for k, o in rows if k == COVID and o.activation_outside is not None]
    card = replace(
        card,
        temperature=temperature,
        bias=(bias[0], bias[1], bias[2]),
        gate_limit=gate.limit_of(np.array([o.gate_score for _, o in rows]), strangers),
        activation_outside_limit=float(np.percentile(outside, DOUBT_PERCENTILE)),
    )
    return with_operating_point(card, cases, outcomes, on)


def with_operating_point(
    card: Card, cases: Sequence[data.Case], outcomes: Sequence[evaluate.Outcome], on: str = HELD_OUT
) -> Card:
    """The card with the threshold that its own temperature and bias ask for on cases that were not trained *on*."""
    pairs = [(c, o) for c, o in zip(cases, outcomes, strict=True) if isinstance(o, Reading)]
    is_covid = np.array([c.label == ChestClass.COVID for c, _ in pairs])
    said = calibration.probabilities(np.stack([o.logits for _, o in pairs]), card.temperature, card.bias)
    threshold = calibration.threshold_for_sensitivity(said[:, COVID], is_covid, SENSITIVITY)
    patients = len({c.patient_id for c, _ in pairs if c.label == ChestClass.COVID})
    point = OperatingPoint(
        ChestClass.COVID,
        threshold,
        f"highest threshold with sensitivity of at least {SENSITIVITY:.2f} for COVID",
        f"{on}: {int(is_covid.sum())} COVID images of {patients} patients",
    )
    return replace(card, operating_points=(point,))
