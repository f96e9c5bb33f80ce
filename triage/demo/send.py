"""Play the hospital: the RIS sends orders over a real MLLP socket, the modality stores images in the archive."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from integrations.dicomweb.folder import store
from integrations.hl7.client import MllpClient
from integrations.hl7.order_message import order_message
from triage.demo.sample import Sample
from triage.domain.errors import Rejected, Unavailable
from triage.settings import Settings


def send(
    samples: Sequence[Sample], settings: Settings, *, archive: Path, rate: float, step: Callable[[], None]
) -> list[str]:
    """
    Send every sample, its order first unless it comes the other way round.

    Returns:
        Names and reasons of those whose order was not accepted.
    """
    refused: list[str] = []
    late: list[Sample] = []
    with MllpClient(settings.mllp_host, settings.mllp_port) as ris:
        for sample in samples:
            if sample.comes_before_order:
                late.append(sample)
            else:
                _order(ris, sample, refused)
            for file in sample.files:
                store(file, archive)
            step()
            time.sleep(1 / rate)
        for sample in late:
            _order(ris, sample, refused)
    return refused


def _order(ris: MllpClient, sample: Sample, refused: list[str]) -> None:
    """Send one order; its control id and instant derive from the study, so that a second run repeats the same bytes."""
    message = order_message(
        sample.order,
        message=sample.message,
        charset=sample.charset,
        control_id=f"D{sample.study_instance_uid[-18:]}",
        sent_at=sample.study.study_at or datetime(2026, 11, 1, tzinfo=UTC),
    )
    try:
        answer = ris.send(message)
    except (Rejected, Unavailable) as why:
        refused.append(f"{sample.name}: {why}")
        return
    if not answer.accepted:
        refused.append(f"{sample.name}: order answered {answer.code}")
