"""The radiographs a demo sends: our own synthetic ones, or a folder of the user's, each with its order and its end."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from rich.progress import Progress

from integrations.dicomweb.facts import study_facts
from integrations.dicomweb.wrap import to_dicom
from triage.domain.errors import UnusableRadiograph
from triage.domain.imaging import Patient, StudyFacts
from triage.domain.order import Code, Order, RequestedPriority
from triage.domain.worklist import AiState, WorklistEntry
from triage.postgres.book import FAILURES

ZONE = ZoneInfo("Asia/Tokyo")
"""The demo hospital's."""
PICTURES = frozenset({".png", ".jpg", ".jpeg"})
CLASSES = ("normal", "pneumonia", "covid")
PRIORITIES = {"S": RequestedPriority.STAT, "A": RequestedPriority.URGENT, "R": RequestedPriority.ROUTINE}
PIXEL_GATE = frozenset({"lungs-implausible", "out-of-distribution", "too-small", "blank"})


@dataclass(frozen=True)
class Ending:
    """
    The end state a sample should reach.

    Attributes:
        reason: None for an assessed one; else the code it must be refused with.
        lane: where it must stand, where that is fixed.
        gate_may_refuse: real radiographs may be refused by the pixel gate; our own must pass it.
    """

    reason: str | None = None
    lane: int | None = None
    gate_may_refuse: bool = False

    def complaint(self, entry: WorklistEntry | None) -> str:
        """What is wrong with *entry*, "" if nothing."""
        if entry is None:
            return "never reached the worklist"
        if self.lane is not None and entry.lane != self.lane:
            return f"stands in lane {entry.lane}, not {self.lane}"
        if self.reason is None:
            if entry.ai_state in {AiState.FLAGGED, AiState.NOT_FLAGGED}:
                return ""
            if self.gate_may_refuse and (entry.ai_state is AiState.NOT_ELIGIBLE):
                return ""
            return f"is {entry.ai_state} ({entry.ai_reason}), should be assessed"
        wanted = AiState.FAILED if self.reason in FAILURES else AiState.NOT_ELIGIBLE
        if entry.ai_state is not wanted or entry.ai_reason != self.reason:
            return f"is {entry.ai_state} ({entry.ai_reason}), should be {wanted} ({self.reason})"
        return ""


@dataclass(frozen=True)
class Sample:
    """One study to send: its files, the order that asks for it, and which comes first."""

    name: str
    files: tuple[Path, ...]
    label: str
    study: StudyFacts = field(repr=False)
    order: Order = field(repr=False)
    message: str
    charset: str
    comes_before_order: bool
    ending: Ending

    @property
    def study_instance_uid(self) -> str:
        """The study's UID."""
        return self.study.study_instance_uid


def own_samples() -> list[Sample]:
    """The synthetic radiographs that ship with the project (`triage/demo/samples`)."""
    folder = Path(str(files("triage.demo"))) / "samples"
    listed = json.loads((folder / "manifest.json").read_text())
    return [_own(entry, folder) for entry in listed]


def _own(entry: Mapping[str, Any], folder: Path) -> Sample:
    paths = tuple(folder / name for name in entry.get("files") or [entry["file"]])
    study = _study(paths[0])
    asked = entry["order"]
    expected = entry["expected"]
    order = Order(
        patient=study.patient,
        placer_order_number=asked["placer_order_number"],
        filler_order_number=asked["filler_order_number"],
        accession_number=asked["accession_number"],
        issuer_of_accession=asked.get("issuer") or study.issuer_of_accession,
        study_instance_uid=asked.get("study_instance_uid") or "",
        procedure=(Code(asked["procedure_code"], "LN", asked["procedure_text"]),),
        requested_priority=PRIORITIES[asked["priority"]],
        scheduled_at=study.study_at,
    )
    return Sample(
        name=paths[0].name,
        files=paths,
        label=entry.get("sample_class") or entry["role"],
        study=study,
        order=order,
        message=asked["message"],
        charset=asked["charset"],
        comes_before_order=entry["arrives"] == "before-order",
        ending=Ending(expected.get("reason"), expected.get("lane")),
    )


def _study(path: Path) -> StudyFacts:
    return study_facts(dcmread(path, stop_before_pixels=True, force=True), ZONE)


def samples_of(folder: Path, wrapped: Path, progress: Progress) -> list[Sample]:
    """
    The radiographs of a user's folder; pictures are wrapped as CR images of invented patients.

    A class is taken from `labels.csv` (file,label) or the name of the folder a file lies in; neither is needed.

    Raises:
        UnusableRadiograph: the folder holds no radiograph at all.
    """
    if not folder.is_dir():
        raise UnusableRadiograph("unreadable-header", f"SAMPLES: no folder {folder}")
    labels = _labels(folder)
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in {"labels.csv", "manifest.csv"}]
    task = progress.add_task("reading the folder of radiographs", total=len(paths))
    found: dict[str, Sample] = {}
    for number, path in enumerate(paths, 1):
        progress.advance(task)
        label = labels.get(path.relative_to(folder).as_posix()) or labels.get(path.name) or _folder_class(path, folder)
        sample = _users(path, wrapped, number, label)
        if sample is not None:
            found.setdefault(sample.study_instance_uid, sample)
    if not found:
        raise UnusableRadiograph("unreadable-header", f"SAMPLES: no PNG, JPEG or DICOM radiograph in {folder}")
    return list(found.values())


def _labels(folder: Path) -> dict[str, str]:
    table = folder / "labels.csv"
    if not table.is_file():
        return {}
    with table.open(newline="") as lines:
        return {row["file"]: row["label"].lower() for row in csv.DictReader(lines) if row.get("label")}


def _folder_class(path: Path, folder: Path) -> str:
    parts = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    return next((part for part in parts if part in CLASSES), "")


def _users(path: Path, wrapped: Path, number: int, label: str) -> Sample | None:
    """One of the user's files as a sample; None for what is neither a picture nor DICOM."""
    if path.suffix.lower() in PICTURES:
        wrapped.mkdir(parents=True, exist_ok=True)
        patient = Patient(f"DEMO-{number:04d}", "DEMO", f"Sample^Number{number:03d}", date(1960, 1, 1), "O")
        dataset = to_dicom(path, patient=patient, accession_number=f"DEMO{number:05d}")
        stored = wrapped / f"{dataset.SOPInstanceUID}.dcm"
        if not stored.exists():
            dataset.save_as(stored, enforce_file_format=True)
        path_to_send, name = stored, path.name
    else:
        try:
            dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, OSError):
            return None
        path_to_send, name = path, path.name
    study = _study(path_to_send)
    order = Order(
        patient=study.patient,
        placer_order_number=f"P{number:05d}",
        filler_order_number=f"F{number:05d}",
        accession_number=study.accession_number,
        issuer_of_accession=study.issuer_of_accession,
        study_instance_uid=study.study_instance_uid,
        procedure=(Code("36554-4", "LN", "XR Chest Single view"),),
        scheduled_at=study.study_at,
    )
    return Sample(
        name=name, files=(path_to_send,), label=label, study=study, order=order,
        message=("ORM^O01", "OMI^O23")[number % 2], charset="UNICODE UTF-8",
        comes_before_order=number % 7 == 0, ending=Ending(gate_may_refuse=True),
    )  # fmt: skip


def in_sending_order(samples: Sequence[Sample]) -> Iterator[Sample]:
    """The order in which studies arrive: as listed; STAT among the rest, not first."""
    yield from samples
