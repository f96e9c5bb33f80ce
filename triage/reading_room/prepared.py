"""study.json: the protocol as it was prepared, with everything that may be shown and nothing of the truth."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from triage.domain.errors import Conflict, Misconfigured, Rejected, Unavailable
from triage.reading_room.cases import Case, inside, sha256_of
from triage.reading_room.store import sync_folder
from triage.reading_room.study import Modality, Order, Showing

PROTOCOL, READINGS = "study.json", "readings"
FORMAT = 1


@dataclass(frozen=True)
class Study:
    """
    A prepared study; the truth is not in it.

    Attributes:
        table_sha256: of cases.csv as it was when the study was prepared.
        codes: by reader, the hash of the code they sign in with.
        key: signs the sessions and names the images.
    """

    folder: Path
    prepared_at: datetime
    seed: int
    washout: timedelta
    table_sha256: str
    cases: Mapping[str, Case]
    orders: Mapping[str, Order]
    codes: Mapping[str, str] = field(repr=False)
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def sessions(self) -> int:
        """How many there are."""
        return max(showing.session for order in self.orders.values() for showing in order)

    @property
    def readings(self) -> Path:
        """The folder of the readers' files."""
        return self.folder / READINGS

    def journal_of(self, reader: str) -> Path:
        """The file of a reader's readings."""
        return self.readings / f"{reader}.jsonl"


def save(study: Study, *, anew: bool) -> None:
    """
    Write study.json, whole or not at all, readable to its owner alone.

    Raises:
        Conflict: *anew*, and the folder holds a study already.
        Unavailable: it cannot be written.
    """
    path = study.folder / PROTOCOL
    if anew and path.exists():
        raise Conflict(f"{PROTOCOL} exists: this folder's study has been prepared, and its codes were shown")
    unfinished = path.with_name(f".{PROTOCOL}.{os.getpid()}")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(_written(study))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(study.folder)
    except OSError as why:
        raise Unavailable(f"{PROTOCOL} cannot be written: {why.strerror}") from None


def load(folder: Path) -> Study:
    """
    Read study.json.

    Raises:
        Misconfigured: there is none, or it is not one of ours.
    """
    try:
        stored = json.loads((folder / PROTOCOL).read_text())
        if stored["format"] != FORMAT:
            raise Misconfigured(f"{PROTOCOL} is of format {stored['format']}, this program reads {FORMAT}")
        return _read(folder, stored)
    except OSError as why:
        raise Misconfigured(f"{PROTOCOL}: {why.strerror}; `triage reader-study prepare` writes it") from None
    except (ValueError, KeyError, TypeError, IndexError) as why:
        raise Misconfigured(f"{PROTOCOL} is damaged ({type(why).__name__})") from None


def check_files(study: Study) -> None:
    """
    Hold the files against what they were when the study was prepared.

    Raises:
        Conflict: one is missing or has changed.
    """
    for place, case in enumerate(study.cases.values(), 1):
        for name, sha256 in ((case.file, case.sha256), (case.overlay, case.overlay_sha256)):
            path = inside(study.folder, name)
            if name and (path is None or sha256_of(path) != sha256):
                raise Conflict(f"{PROTOCOL}, case {place}: its file is missing, or not the one the study began with")


def with_code(study: Study, reader: str, code_hash: str, key: bytes) -> Study:
    """
    The study with another code for one reader; the new key ends every session.

    Raises:
        Rejected: there is no such reader.
    """
    if reader not in study.codes:
        raise Rejected(f"the study has no reader {reader}: {', '.join(study.codes)}")
    return replace(study, codes={**study.codes, reader: code_hash}, key=key)


def _written(study: Study) -> str:
    places = {case_id: place for place, case_id in enumerate(study.cases)}
    readers = [
        {
            "readerID": reader,
            "code": study.codes[reader],
            "order": [[showing.session, places[showing.case_id], showing.modality] for showing in order],
        }
        for reader, order in study.orders.items()
    ]
    head = {
        "format": FORMAT, "prepared_at": study.prepared_at.isoformat(), "seed": study.seed,
        "washout_days": study.washout / timedelta(days=1), "cases_csv_sha256": study.table_sha256,
        "salt": study.salt.hex(), "key": study.key.hex(),
    }  # fmt: skip
    cases = ",\n  ".join(json.dumps(asdict(case)) for case in study.cases.values())
    people = ",\n  ".join(json.dumps(reader) for reader in readers)
    return f'{json.dumps(head, indent=1)[:-2]},\n "cases": [\n  {cases}],\n "readers": [\n  {people}]\n}}\n'


def _read(folder: Path, stored: Mapping[str, Any]) -> Study:
    cases = [
        Case(**{**case, "probabilities": case["probabilities"] and tuple(case["probabilities"])})
        for case in stored["cases"]
    ]
    return Study(
        folder=folder,
        prepared_at=datetime.fromisoformat(stored["prepared_at"]),
        seed=stored["seed"],
        washout=timedelta(days=stored["washout_days"]),
        table_sha256=stored["cases_csv_sha256"],
        cases={case.case_id: case for case in cases},
        orders={
            reader["readerID"]: tuple(
                Showing(cases[place].case_id, Modality(modality), session)
                for session, place, modality in reader["order"]
            )
            for reader in stored["readers"]
        },
        codes={reader["readerID"]: reader["code"] for reader in stored["readers"]},
        salt=bytes.fromhex(stored["salt"]),
        key=bytes.fromhex(stored["key"]),
    )
