"""A baseline as JSON and back: cases frozen at external validation or at a site's acceptance; no identifier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from triage.audit.cases import CLASSES, COVID, UNKNOWN, Cases, Words
from triage.audit.evidence import Model
from triage.audit.plain import to_json
from triage.domain.errors import Misconfigured
from triage.domain.finding import PIXEL_STATISTICS


def frozen_json(cases: Cases, *, name: str, until: datetime, model: Model) -> str:
    """A baseline as it is stored: every case, no identifier; patients are numbered anew."""
    _, whose = np.unique(cases.patient, return_inverse=True)
    return to_json(
        {
            "schema": 1,
            "name": name,
            "until": until.astimezone(UTC).isoformat(timespec="seconds"),
            "model": model,
            "probability": cases.probability,
            "truth": cases.truth,
            "patient": whose,
            "day": cases.day,
            "is_flagged": cases.is_flagged,
            "numbers": cases.numbers,
            "words": {k: w.texts() for k, w in cases.words.items()},
            "coordinates": cases.coordinates,
        }
    )


def cases_of(body: str) -> Cases:
    """
    Read a baseline back.

    Raises:
        Misconfigured: it is not one.
    """
    try:
        stored: dict[str, Any] = json.loads(body)
        n = len(stored["truth"])
        return Cases(
            probability=_numbers(stored["probability"], (n, len(CLASSES))),
            truth=np.array(stored["truth"], dtype=np.int64),
            patient=np.array(stored["patient"], dtype=np.int64),
            day=np.array(stored["day"], dtype=np.int64),
            is_flagged=np.array(stored["is_flagged"], dtype=bool),
            numbers={k: _numbers(v, (n,)) for k, v in stored["numbers"].items()},
            words={k: Words.of(v) for k, v in stored["words"].items()},
            coordinates=_numbers(stored["coordinates"], (len(stored["coordinates"]), -1)),
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise Misconfigured(f"a stored baseline cannot be read: {type(exc).__name__}") from exc


def _numbers(values: Any, shape: tuple[int, ...]) -> Any:
    found = np.array([[np.nan if x is None else x for x in row] if isinstance(row, list) else
                      (np.nan if row is None else row) for row in values], dtype=np.float64)  # fmt: skip
    return found.reshape(shape) if found.size else np.zeros((shape[0], 0) if len(shape) > 1 else shape)


def from_external(stored: Mapping[str, Any], threshold: float) -> Cases:
    """The frozen external validation of the shipped weights (`models/weights/baseline.json`) as cases."""
    rows = stored["cases"]
    nothing = [None] * len(CLASSES)
    usable = [r if r["refused"] is None and r["probabilities"] else {**r, "probabilities": nothing} for r in rows]
    probability = _numbers([list(r["probabilities"]) for r in usable], (len(rows), len(CLASSES)))
    names = [*CLASSES, "other"]
    _, patient = np.unique([r["patient"] for r in rows], return_inverse=True)
    numbers = {f"pixel {k}": _numbers([r["statistics"].get(k) for r in rows], (len(rows),)) for k in PIXEL_STATISTICS}
    for name in ("gate_score", "lung_area", "activation_outside"):
        numbers[name] = _numbers([r[name] for r in rows], (len(rows),))
    width = max((len(r["coordinates"]) for r in rows if r["coordinates"]), default=0)
    return Cases(
        probability=probability,
        truth=np.array([names.index(r["label"]) if r["label"] in names else UNKNOWN for r in rows]),
        patient=patient,
        day=np.zeros(len(rows), dtype=np.int64),
        is_flagged=np.nan_to_num(probability[:, COVID]) >= threshold,
        numbers=numbers,
        words={
            "sex": Words.of([r["sex"] for r in rows]),
            "view_position": Words.of([r["view"] for r in rows]),
            "refusal": Words.of([r["refused"] or "" for r in rows]),
        },
        coordinates=_numbers([list(r["coordinates"] or [None] * width) for r in rows], (len(rows), width)),
    )
