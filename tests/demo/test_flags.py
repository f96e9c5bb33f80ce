"""What the shipped weights say of the synthetic samples: most of COVID flagged, few of the normals."""

from __future__ import annotations

from datetime import UTC, datetime

from integrations.dicomweb.radiograph import to_radiograph
from models.engine import Engine
from triage.demo.sample import own_samples
from triage.domain.finding import Assessment


def test_the_samples_are_assessed_and_flagged_as_promised() -> None:
    frontals = [sample for sample in own_samples() if sample.ending.reason is None]
    assert len(frontals) >= 24
    radiographs = [to_radiograph(sample.files[0].read_bytes()) for sample in frontals]
    outcomes = Engine.load().assess(radiographs, datetime(2026, 11, 2, tzinfo=UTC))
    refused = [s.name for s, outcome in zip(frontals, outcomes, strict=True) if not isinstance(outcome, Assessment)]
    assert refused == []
    flagged: dict[str, list[bool]] = {}
    for sample, outcome in zip(frontals, outcomes, strict=True):
        assert isinstance(outcome, Assessment)
        flagged.setdefault(sample.label, []).append(outcome.is_flagged)
    assert sum(flagged["covid"]) >= len(flagged["covid"]) / 2
    assert sum(flagged["normal"]) <= len(flagged["normal"]) / 4
