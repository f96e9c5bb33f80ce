"""
A growing folder of DICOM files as the service's archive, served through `dicomweb_client.DICOMfileClient`.

That client (0.61) indexes a folder once: an update reads every file again, forgets none that went, drops an accession
number at study level, passes over what it cannot parse, stops at some broken files, ties its database to one thread
and changes pydicom's process-wide validation while it works. So here:

- A list of our own, kept up by size and time stamps, says which files are there and what their headers say; a broken
  image is listed like any other, so that the service can say "undecodable".
- New files are given to a client of their own, as links in a private folder ("shelf"), with its database in memory.
  Each file is indexed once; when shelves are many they become one.
- Everything that touches a client or a header runs in one thread; decoding runs in the caller's.

Any number of processes may open one folder, also a read-only one: each keeps its own list.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, TypeVar

import requests
from dicomweb_client import DICOMfileClient
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag

from integrations.dicomweb.archive import CLOCKS_AHEAD, MODALITIES, quiet_libraries
from integrations.dicomweb.facts import instance_facts, seen_instance, study_facts
from integrations.dicomweb.header import span
from integrations.dicomweb.radiograph import USUAL, Limits, refuse_deflated_bomb, to_radiograph
from triage.domain.errors import ArchiveUnavailable, UnusableRadiograph
from triage.domain.imaging import InstanceFacts, Radiograph, SeenInstance, StudyFacts

T = TypeVar("T")

MOST_SHELVES = 16
UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".filepart")
"""Endings under which programs write a file before they rename it; hidden files likewise."""

Stamp = tuple[int, int, int]
"""Size, modification time (ns), inode."""


@dataclass(frozen=True)
class _File:
    """One file of the folder: a DICOM instance, or why it is none."""

    path: Path
    stamp: Stamp
    unreadable: str = ""
    study: StudyFacts | None = field(default=None, repr=False)
    dated: tuple[datetime, datetime] | None = None
    seen: SeenInstance | None = None
    header: InstanceFacts | UnusableRadiograph | None = field(default=None, repr=False)


class FolderArchive:
    """`triage.ports.Archive` over a folder; safe to use from several threads and after a fork."""

    def __init__(
        self,
        path: Path,
        *,
        name: str = "folder",
        site_zone: tzinfo,
        settle_s: float = 1.0,
        limits: Limits = USUAL,
    ) -> None:
        """
        Args:
            path: looked through with its sub-folders; only read.
            settle_s: a file changed within this time may still be being written, unless it was renamed into place.
        """
        quiet_libraries()
        self.name = name
        self._path = path
        self._site_zone = site_zone
        self._settle_s = settle_s
        self._limits = limits
        self._lock = threading.Lock()
        self._pid = 0

    def studies_since(self, since: datetime, until: datetime) -> Iterator[StudyFacts]:
        """
        Studies holding CR or DX dated from *since* to a day after *until*, as `DicomwebArchive` gives them.

        Raises:
            ArchiveUnavailable: the folder cannot be read.
        """
        for files in self._studies().values():
            is_radiography = any(_modality(file) in MODALITIES for file in files)
            dated = [file.dated for file in files]
            if is_radiography and any(d is None or (d[1] >= since and d[0] <= until + CLOCKS_AHEAD) for d in dated):
                yield _study(files)

    def studies_of_accession(self, accession_number: str) -> Sequence[StudyFacts]:
        """Studies of any modality filed under *accession_number*."""
        found = [_study(files) for files in self._studies().values()]
        wanted = accession_number.strip()
        return [study for study in found if wanted and study.accession_number == wanted]

    def study(self, study_instance_uid: str) -> StudyFacts | None:
        """One study, whatever its date; None where the folder holds none."""
        files = self._studies().get(study_instance_uid)
        return _study(files) if files else None

    def instances(self, study_instance_uid: str) -> Sequence[SeenInstance]:
        """The instances whose files are there and written to their end."""
        return [file.seen for file in self._studies().get(study_instance_uid, ()) if file.seen]

    def headers(self, study_instance_uid: str) -> Iterator[InstanceFacts | tuple[str, UnusableRadiograph]]:
        """
        The header facts of every instance, or (SOP Instance UID, why not).

        Looks afresh: another process (the sweep) may know of files that this one's last look was too early for.
        """
        for file in self._studies(fresh=True).get(study_instance_uid, ()):
            if isinstance(file.header, InstanceFacts):
                yield file.header
            elif file.header and file.seen:
                yield file.seen.sop_instance_uid, file.header

    def radiograph(self, facts: InstanceFacts) -> Radiograph:
        """
        Read and decode one instance.

        Raises:
            UnusableRadiograph: it cannot be decoded.
            ArchiveUnavailable: its file is gone.
        """
        dataset = self._at_the_desk(lambda desk: desk.fetch(facts))
        return to_radiograph(dataset, site_zone=self._site_zone, limits=self._limits)

    def unreadable(self) -> list[tuple[str, str]]:
        """Files that are no DICOM instance: (name inside the folder, why). Names may hold patients: not for logs."""
        files = self._at_the_desk(lambda desk: desk.look())
        return [(_name(file.path.relative_to(self._path)), file.unreadable) for file in files if file.unreadable]

    def _studies(self, *, fresh: bool = False) -> dict[str, list[_File]]:
        """Files by study; of two files with one SOP Instance UID the first by name counts."""
        by_uid: dict[str, _File] = {}
        for file in self._at_the_desk(lambda desk: desk.look(fresh=fresh)):
            if file.seen:
                by_uid.setdefault(file.seen.sop_instance_uid, file)
        studies: dict[str, list[_File]] = {}
        for file in by_uid.values():
            if file.study:
                studies.setdefault(file.study.study_instance_uid, []).append(file)
        return studies

    def _at_the_desk(self, work: Callable[[_Desk], T]) -> T:
        """Run *work* in the thread that owns the clients; started anew in a forked child, where no thread lives on."""
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._desk = _Desk(self._path, self.name, self._site_zone, self._settle_s, self._limits)
                self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"archive-{self.name}")
        return self._thread.submit(work, self._desk).result()


class _Desk:
    """The folder's list and its clients; lives in one thread."""

    def __init__(self, path: Path, name: str, site_zone: tzinfo, settle_s: float, limits: Limits) -> None:
        self._path = path
        self._name = name
        self._site_zone = site_zone
        self._settle_s = settle_s
        self._limits = limits
        self._files: dict[Path, _File] = {}
        self._shelved: dict[Path, Any] = {}
        self._shelves = 0
        self._unfinished: dict[Path, tuple[Stamp, float]] = {}
        self._links = Path(tempfile.mkdtemp(prefix="triage-shelves-"))
        weakref.finalize(self, _remove, self._links, os.getpid())
        self._look_again_at = 0.0

    def look(self, *, fresh: bool = False) -> list[_File]:
        """
        Bring the list up to date and give it, in order of names; looking takes at most a twentieth of the time, unless
        the caller cannot do with an older list.
        """
        if fresh or time.monotonic() >= self._look_again_at:
            started = time.monotonic()
            there = self._there()
            took_s = time.monotonic() - started
            self._look_again_at = time.monotonic() + (min(5.0, 19 * took_s) if took_s > 0.01 else 0)
            self._update(there)
        return [self._files[path] for path in sorted(self._files)]

    def fetch(self, facts: InstanceFacts) -> Dataset:
        """The whole data set of one instance, its header read."""
        wanted = facts.sop_instance_uid
        for fresh in (False, True):
            for file in self.look(fresh=fresh):
                if file.seen and file.seen.sop_instance_uid == wanted:
                    return self._read(file, facts)
        raise ArchiveUnavailable(f"{self._name}: the file of instance {wanted} is gone")

    def _read(self, file: _File, facts: InstanceFacts) -> Dataset:
        try:
            dataset = self._from_shelf(file, facts) or dcmread(file.path, force=True)
        except FileNotFoundError:
            raise ArchiveUnavailable(f"{self._name}: the file of {facts.sop_instance_uid} is gone") from None
        except OSError as exc:
            raise ArchiveUnavailable(f"{self._name}: the file cannot be read, {type(exc).__name__}") from None
        except Exception as exc:  # pydicom raises whatever the bad bytes provoke
            raise UnusableRadiograph("undecodable", type(exc).__name__) from None
        for tag in list(dataset.keys()):  # values are parsed when first touched: here, while no client validates
            if tag.group < 0x7F00:
                _touch(dataset, tag)
        return dataset

    def _from_shelf(self, file: _File, facts: InstanceFacts) -> Dataset | None:
        """The data set as the client gives it; None where it passed the file over, or deflated ones."""
        client = self._shelved.get(file.path)
        if client is None:
            return None
        try:
            return client.retrieve_instance(  # type: ignore[no-any-return]
                facts.study_instance_uid, facts.series_instance_uid, facts.sop_instance_uid
            )
        except requests.HTTPError:  # the client's wrapping of whatever happened
            return None

    def _update(self, there: dict[Path, Stamp]) -> None:
        for gone in self._files.keys() - there.keys():
            self._forget(gone)
        changed = [path for path, stamp in there.items() if self._is_new(path, stamp)]
        for path in changed:
            self._forget(path)
            self._files[path] = self._described(path, there[path])
        self._shelve([path for path in changed if not self._files[path].unreadable])

    def _is_new(self, path: Path, stamp: Stamp) -> bool:
        known = self._files.get(path)
        return known is None or known.stamp != stamp

    def _forget(self, path: Path) -> None:
        self._files.pop(path, None)
        self._shelved.pop(path, None)

    def _there(self) -> dict[Path, Stamp]:
        """Finished files and their stamps; one that is being written, or written again, is not there."""
        there: dict[Path, Stamp] = {}
        now = time.time()
        folders = [self._path]
        while folders:
            folder = folders.pop()
            try:
                found = list(os.scandir(folder))
            except FileNotFoundError:
                if folder == self._path:
                    raise ArchiveUnavailable(f"{self._name}: the folder is not there") from None
                continue
            except OSError as exc:
                raise ArchiveUnavailable(f"{self._name}: {type(exc).__name__}") from None
            for one in found:
                if one.name.startswith(".") or one.name == "DICOMDIR" or one.name.lower().endswith(UNFINISHED):
                    continue
                try:
                    if one.is_dir():
                        folders.append(Path(one.path))
                        continue
                    stat = one.stat()
                except OSError:
                    continue
                path, stamp = Path(one.path), (stat.st_size, stat.st_mtime_ns, stat.st_ino)
                if one.is_file() and self._is_finished(path, stamp, now):
                    there[path] = stamp
        return there

    def _is_finished(self, path: Path, stamp: Stamp, now: float) -> bool:
        """Unchanged for a while, by its time stamp or (where the server's clock runs ahead) as seen from here."""
        if stamp[0] and now - stamp[1] / 1e9 >= self._settle_s:
            self._unfinished.pop(path, None)
            return True
        known, since = self._unfinished.get(path, (stamp, time.monotonic()))
        since = since if known == stamp else time.monotonic()
        self._unfinished[path] = (stamp, since)
        return bool(stamp[0]) and time.monotonic() - since >= self._settle_s

    def _described(self, path: Path, stamp: Stamp) -> _File:
        """What the header says; a file whose UIDs cannot be read is no instance."""
        try:
            dataset, has_pixels = _header_of(path, self._limits)
            seen, study = seen_instance(dataset), study_facts(dataset, self._site_zone)
            dated = span(dataset, "Study", self._site_zone)
        except UnusableRadiograph as refusal:
            return _File(path, stamp, unreadable=refusal.detail or refusal.reason)
        try:
            header: InstanceFacts | UnusableRadiograph = instance_facts(dataset, self._site_zone, has_pixels=has_pixels)
        except UnusableRadiograph as refusal:
            header = refusal
        return _File(path, stamp, study=study, dated=dated, seen=seen, header=header)

    def _shelve(self, paths: list[Path]) -> None:
        """Let a client index *paths*; a file that stops it is left out and read directly."""
        if len(set(map(id, self._shelved.values()))) >= MOST_SHELVES:
            paths = [*self._shelved, *paths]
            self._shelved.clear()
        client = self._client_of(paths) if paths else None
        if client is None and paths:
            paths = [path for path in paths if self._client_of([path])]
            client = self._client_of(paths)
        if client is not None:
            self._shelved.update(dict.fromkeys(paths, client))

    def _client_of(self, paths: list[Path]) -> Any:
        """A client over links to *paths*; None where a file stopped its update. It may have passed over some."""
        self._shelves += 1
        shelf = self._links / str(self._shelves)
        shelf.mkdir(parents=True)  # cleaners of /tmp take folders that rest; files are then read directly
        for number, path in enumerate(paths):
            (shelf / str(number)).symlink_to(path.resolve())
        modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
        try:
            return DICOMfileClient(f"file://{shelf}", in_memory=True, readonly=True)
        except Exception:  # the client catches some of what broken files provoke
            return None
        finally:
            config.settings.reading_validation_mode, config.settings.writing_validation_mode = modes


def store(source: Path | Dataset, folder: Path, name: str = "") -> Path:
    """
    Put a DICOM file into *folder* so that no reader ever sees half of it: written under a hidden name, then renamed.

    Args:
        name: of the new file; by default that of the file, or the SOP Instance UID.
    Returns:
        where it is now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = name or (source.name if isinstance(source, Path) else f"{source.SOPInstanceUID}.dcm")
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part", delete=False) as hidden:
        if isinstance(source, Path):
            hidden.write(source.read_bytes())
        else:
            source.save_as(hidden, enforce_file_format=True)
        hidden.flush()
        os.fsync(hidden.fileno())
    Path(hidden.name).chmod(0o644)
    return Path(hidden.name).replace(folder / name)


def _header_of(path: Path, limits: Limits) -> tuple[Dataset, bool]:
    """
    The data set up to its pixels, and whether pixels follow.

    Raises:
        UnusableRadiograph: unreadable-header: no DICOM, or damaged so early that nothing can be read.
    """
    try:
        with path.open("rb") as file:
            refuse_deflated_bomb(file, limits)
            file.seek(0)
            try:
                dataset = dcmread(file, stop_before_pixels=True)
            except InvalidDicomError:
                file.seek(0)
                dataset = dcmread(file, stop_before_pixels=True, force=True)
                if "SOPInstanceUID" not in dataset:
                    raise UnusableRadiograph("unreadable-header", "not DICOM") from None
            follows = file.read(4)
    except UnusableRadiograph:
        raise
    except Exception as exc:  # pydicom raises whatever the bad bytes provoke; its text may hold a value
        raise UnusableRadiograph("unreadable-header", f"not DICOM ({type(exc).__name__})") from None
    is_deflated = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", "") == "1.2.840.10008.1.2.1.99"
    return dataset, follows[:2] in (b"\xe0\x7f", b"\x7f\xe0") or (is_deflated and "Rows" in dataset)


def _remove(links: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a forked child: the parent still needs them
        shutil.rmtree(links, ignore_errors=True)


def _touch(dataset: Dataset, tag: BaseTag) -> None:
    with contextlib.suppress(Exception):  # pydicom raises whatever the bad value provokes
        dataset[tag]


def _name(path: Path) -> str:
    """*path* as text that can be encoded again: names of files are bytes, and not always UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _modality(file: _File) -> str:
    return file.seen.modality if file.seen else ""


def _study(files: Sequence[_File]) -> StudyFacts:
    """The study as its first file tells it, with all modalities and the count of what is there."""
    first = files[0].study
    assert first is not None
    modalities = tuple(sorted({_modality(file) for file in files} - {""}))
    return replace(first, modalities=modalities, instance_count=len(files))
