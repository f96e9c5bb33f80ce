"""The radiographs a demo sends: our own synthetic ones, or a folder of the user's, each with its order and its end."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from rich.progress import Progress

from integrations.dicomweb.facts import study_facts
from integrations.dicomweb.wrap import to_dicom
from triage.domain.errors import Misconfigured, UnusableRadiograph
from triage.domain.imaging import Patient, StudyFacts
from triage.domain.order import Code, Order, RequestedPriority
from triage.domain.worklist import AiState, WorklistEntry
from triage.postgres.book import FAILURES

ZONE = ZoneInfo("Asia/Tokyo")
"""The demo hospital's."""
PICTURES = frozenset({".png", ".jpg", ".jpeg"})
CLASSES = ("normal", "pneumonia", "covid")
PRIORITIES = {"S": RequestedPriority.STAT, "A": RequestedPriority.URGENT, "R": RequestedPriority.ROUTINE}
TAKEN_AT = datetime(2026, 11, 2, 9, 0, tzinfo=ZONE)
"""The invented acquisition instant of pictures; fixed, so that a second run sends the same."""


@dataclass(frozen=True)
class Ending:
    """
    The end state a sample should reach.

    Attributes:
        reason: None for an assessed one; else the code it must be refused with.
        lane: where it must stand, where that is fixed.
        may_be_refused: a user's radiograph may be refused, for a named reason; our own must be assessed.
    """

    reason: str | None = None
    lane: int | None = None
    may_be_refused: bool = False

    def complaint(self, entry: WorklistEntry | None) -> str:
        """What is wrong with *entry*, "" if nothing."""
        if entry is None:
            return "never reached the worklist"
        if self.lane is not None and entry.lane != self.lane:
            return f"stands in lane {entry.lane}, not {self.lane}"
        if self.reason is None:
            if entry.ai_state in {AiState.FLAGGED, AiState.NOT_FLAGGED}:
                return ""
            refused = entry.ai_state is AiState.NOT_ELIGIBLE or entry.ai_reason in {"undecodable", "unreadable-header"}
            if self.may_be_refused and refused:
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
    """
    What the header says of the study.

    Raises:
        UnusableRadiograph: the file is no DICOM, or names no study.
    """
    try:
        return study_facts(dcmread(path, stop_before_pixels=True, force=True), ZONE)
    except (InvalidDicomError, OSError, ValueError, AttributeError, EOFError) as why:
        raise UnusableRadiograph("unreadable-header", type(why).__name__) from None


def samples_of(folder: Path, wrapped: Path, progress: Progress) -> tuple[list[Sample], list[str]]:
    """
    The radiographs of a user's folder; pictures are wrapped as CR images of invented patients.

    A class is taken from `labels.csv` (file,label) or the name of the folder a file lies in; neither is needed.

    Returns:
        The samples, and what was left out with its reason.
    Raises:
        Misconfigured: there is no such folder, or it holds no radiograph at all.
    """
    if not folder.is_dir():
        raise Misconfigured(f"SAMPLES: no folder {folder}")
    labels = _labels(folder)
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix.lower() != ".csv"]
    task = progress.add_task("reading the folder of radiographs", total=len(paths))
    found: dict[str, Sample] = {}
    left_out: list[str] = []
    for number, path in enumerate(paths, 1):
        progress.advance(task)
        name = path.relative_to(folder).as_posix()
        label = labels.get(name) or labels.get(path.name) or _folder_class(path, folder)
        try:
            sample = _users(path, wrapped, number, label)
        except UnusableRadiograph as why:
            left_out.append(f"{name}: {why}")
            continue
        if found.setdefault(sample.study_instance_uid, sample) is not sample:
            found[sample.study_instance_uid] = replace(
                found[sample.study_instance_uid], files=(*found[sample.study_instance_uid].files, *sample.files)
            )
    if not found:
        raise Misconfigured(f"SAMPLES: no PNG, JPEG or DICOM radiograph in {folder}")
    return list(found.values()), left_out


def _labels(folder: Path) -> dict[str, str]:
    table = folder / "labels.csv"
    if not table.is_file():
        return {}
    with table.open(newline="") as lines:
        return {row["file"]: row["label"].lower() for row in csv.DictReader(lines) if row.get("label")}


def _folder_class(path: Path, folder: Path) -> str:
    parts = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    return next((part for part in parts if part in CLASSES), "")


def _users(path: Path, wrapped: Path, number: int, label: str) -> Sample:
    """
    One of the user's files as a sample.

    Raises:
        UnusableRadiograph: it is neither a picture nor DICOM.
    """
    path_to_send = path
    if path.suffix.lower() in PICTURES:
        path_to_send = _wrapped(path, wrapped)
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
        name=path.name, files=(path_to_send,), label=label, study=study, order=order,
        message=("ORM^O01", "OMI^O23")[number % 2], charset="UNICODE UTF-8",
        comes_before_order=number % 7 == 0, ending=Ending(may_be_refused=True),
    )  # fmt: skip


def _wrapped(path: Path, folder: Path) -> Path:
    """A picture as a CR image of an invented patient, all derived from its bytes, kept for the next run."""
    number = f"{int(hashlib.sha256(path.read_bytes()).hexdigest(), 16) % 10**8:08d}"
    stored = folder / f"{number}.dcm"
    if not stored.exists():
        folder.mkdir(parents=True, exist_ok=True)
        patient = Patient(f"DEMO-{number}", "DEMO", f"Sample^N{number}", date(1960, 1, 1), "O")
        dataset = to_dicom(path, patient=patient, study_at=TAKEN_AT, accession_number=f"D{number}")
        dataset.save_as(stored, enforce_file_format=True)
    return stored
