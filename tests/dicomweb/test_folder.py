"""A folder that grows, with whole, broken and foreign files in it: each is served, or named, and none is lost."""

from __future__ import annotations

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import config, uid

from integrations.dicomweb.folder import FolderArchive, store
from tests.dicomweb.files import file_of, in_syntax, make_dataset
from triage.domain.errors import ArchiveUnavailable, UnusableRadiograph
from triage.domain.imaging import InstanceFacts

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
LONG_AGO = 1_700_000_000


@pytest.fixture
def archive(tmp_path: Path) -> FolderArchive:
    """An empty folder's archive; looks at the folder at every question."""
    (tmp_path / "images").mkdir()
    return FolderArchive(tmp_path / "images", site_zone=UTC, settle_s=0.5)


def put(archive: FolderArchive, content: bytes, name: str) -> Path:
    """A file written long ago."""
    path = archive._path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def listed(archive: FolderArchive) -> set[str]:
    return {study.study_instance_uid for study in archive.studies_since(SINCE, UNTIL)}


def test_a_study_is_listed_read_and_decoded(archive: FolderArchive) -> None:
    dataset = make_dataset()
    put(archive, file_of(dataset), "a name with spaces & 本.dcm")
    (study,) = archive.studies_since(SINCE, UNTIL)
    assert (study.instance_count, study.modalities) == (1, ("DX",))
    assert study.patient.name.endswith("もとみや^たろう")
    (facts,) = archive.headers(study.study_instance_uid)
    assert isinstance(facts, InstanceFacts)
    assert archive.instances(study.study_instance_uid)[0].sop_instance_uid == facts.sop_instance_uid
    assert archive.radiograph(facts).pixels.shape == (240, 260)
    assert archive.studies_of_accession("ACC-1") == [study]
    assert archive.studies_of_accession("ACC-2") == []
    assert archive.studies_of_accession("") == []


def test_a_study_is_found_by_its_uid_whatever_its_date(archive: FolderArchive) -> None:
    dataset = make_dataset(StudyDate="20200101")
    put(archive, file_of(dataset), "old.dcm")
    found = archive.study(dataset.StudyInstanceUID)
    assert found is not None and found.instance_count == 1
    assert archive.study("1.2.3") is None


def test_the_folder_grows_shrinks_and_changes(archive: FolderArchive) -> None:
    first, second = make_dataset(), make_dataset()
    path = put(archive, file_of(first), "ward/first.dcm")
    assert listed(archive) == {first.StudyInstanceUID}
    put(archive, file_of(second), "second.dcm")
    assert listed(archive) == {first.StudyInstanceUID, second.StudyInstanceUID}
    path.unlink()
    assert listed(archive) == {second.StudyInstanceUID}
    changed = make_dataset(StudyInstanceUID=second.StudyInstanceUID)
    (archive._path / "second.dcm").write_bytes(file_of(changed) + b"\0\0")
    os.utime(archive._path / "second.dcm", (LONG_AGO + 9, LONG_AGO + 9))
    assert [one.sop_instance_uid for one in archive.instances(second.StudyInstanceUID)] == [changed.SOPInstanceUID]


def test_a_late_instance_joins_its_study(archive: FolderArchive) -> None:
    first = make_dataset()
    study_uid = first.StudyInstanceUID
    put(archive, file_of(first), "1.dcm")
    assert len(archive.instances(study_uid)) == 1
    put(archive, file_of(make_dataset(StudyInstanceUID=study_uid)), "2.dcm")
    assert len(archive.instances(study_uid)) == len(list(archive.headers(study_uid))) == 2
    put(archive, file_of(first), "copy of 1.dcm")
    assert len(archive.instances(study_uid)) == 2
    assert next(archive.studies_since(SINCE, UNTIL)).instance_count == 2


def test_many_arrivals_are_indexed_once_each_and_stay_few_clients(archive: FolderArchive) -> None:
    datasets = [make_dataset() for _ in range(40)]
    for number, dataset in enumerate(datasets):
        put(archive, file_of(dataset), f"{number}.dcm")
        assert len(listed(archive)) == number + 1
    clients = archive._desk._shelved.values()
    assert len(clients) == 40
    assert len(set(map(id, clients))) <= 16
    for dataset in datasets[::13]:
        (facts,) = archive.headers(dataset.StudyInstanceUID)
        assert isinstance(facts, InstanceFacts)
        assert archive.radiograph(facts).facts.sop_instance_uid == dataset.SOPInstanceUID


def test_a_file_being_written_is_not_served_until_it_rests(archive: FolderArchive) -> None:
    dataset = make_dataset()
    content = file_of(dataset)
    with (archive._path / "slow.dcm").open("wb") as file:
        for at in range(0, len(content), 1 + len(content) // 4):
            file.write(content[at : at + 1 + len(content) // 4])
            file.flush()
            assert listed(archive) == set()
            time.sleep(0.1)
    assert listed(archive) == set()
    time.sleep(0.6)
    assert listed(archive) == {dataset.StudyInstanceUID}


def test_a_clock_that_runs_ahead_does_not_hide_a_file(archive: FolderArchive) -> None:
    path = put(archive, file_of(make_dataset()), "tomorrow.dcm")
    os.utime(path, (time.time() + 86400, time.time() + 86400))
    assert listed(archive) == set()
    time.sleep(0.6)
    assert len(listed(archive)) == 1


def test_storing_is_never_seen_half_done(archive: FolderArchive, tmp_path: Path) -> None:
    dataset = make_dataset()
    seen: set[int] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.update(path.stat().st_size for path in archive._path.glob("[!.]*"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    stored = store(dataset, archive._path)
    again = store(stored, archive._path, "again.dcm")
    done.set()
    watcher.join()
    assert seen <= {stored.stat().st_size}
    assert again.read_bytes() == stored.read_bytes() == file_of(dataset)
    assert not list(archive._path.glob(".*"))
    time.sleep(0.6)
    assert listed(archive) == {dataset.StudyInstanceUID}


def test_broken_images_are_listed_and_say_why(archive: FolderArchive) -> None:
    cut, bare, empty = make_dataset(), make_dataset(Rows=None, Columns=None), make_dataset(PixelData=None)
    frames = make_dataset(NumberOfFrames="1")
    put(archive, file_of(cut)[:-4000], "cut.dcm")
    put(archive, file_of(bare), "bare.dcm")
    put(archive, file_of(empty), "empty.dcm")
    put(
        archive, file_of(frames).replace(b"\x28\x00\x08\x00IS\x02\x001 ", b"\x28\x00\x08\x00IS\x02\x00ab"), "frames.dcm"
    )
    whole = make_dataset()
    put(archive, file_of(whole), "whole.dcm")
    assert len(listed(archive)) == 5
    reasons = {}
    for dataset in (cut, bare, empty, frames, whole):
        (header,) = archive.headers(dataset.StudyInstanceUID)
        try:
            if not isinstance(header, InstanceFacts):
                raise header[1]
            reasons[dataset.SOPInstanceUID] = archive.radiograph(header).facts.modality
        except UnusableRadiograph as refusal:
            reasons[dataset.SOPInstanceUID] = refusal.reason
    assert list(reasons.values()) == ["undecodable", "too-small", "no-pixels", "unreadable-header", "DX"]
    assert archive.unreadable() == []


def test_files_that_are_no_dicom_are_named(archive: FolderArchive) -> None:
    put(archive, b"hello", "ward/read me.txt")
    put(archive, b"\0" * 128 + b"DICM" + b"\xff" * 40, "broken.dcm")
    put(archive, file_of(make_dataset(StudyInstanceUID=None)), "nameless.dcm")
    put(archive, file_of(make_dataset())[:3000], ".hidden.dcm")
    put(archive, b"half", "coming.dcm.part")
    put(archive, b"", "nothing yet.dcm")
    found = dict(archive.unreadable())
    assert found.keys() == {"ward/read me.txt", "broken.dcm", "nameless.dcm"}
    assert found["ward/read me.txt"] == "not DICOM"
    assert found["nameless.dcm"] == "StudyInstanceUID"
    assert listed(archive) == set()


def test_a_file_name_that_is_no_utf_8_can_be_stored(archive: FolderArchive) -> None:
    put(archive, b"no DICOM", os.fsdecode(b"caf\xe9.txt"))
    ((name, _),) = archive.unreadable()
    assert name.encode() == b"caf\\xe9.txt"


@pytest.mark.parametrize(
    "syntax", [uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.JPEG2000Lossless, uid.RLELossless]
)
def test_compressed_files_are_served_too(archive: FolderArchive, syntax: uid.UID) -> None:
    dataset = make_dataset()
    put(archive, in_syntax(dataset, syntax), "one.dcm")
    (facts,) = archive.headers(dataset.StudyInstanceUID)
    assert isinstance(facts, InstanceFacts)
    assert facts.has_pixels
    assert archive.radiograph(facts).pixels.std() > 0.1


def test_other_modalities_are_found_by_accession_only(archive: FolderArchive) -> None:
    put(archive, file_of(make_dataset(Modality="CT")), "ct.dcm")
    assert listed(archive) == set()
    assert archive.studies_of_accession("ACC-1")[0].modalities == ("CT",)


def test_the_window_of_study_times_is_kept(archive: FolderArchive) -> None:
    old, dateless, timeless = make_dataset(StudyDate="20261025"), make_dataset(StudyDate=""), make_dataset(StudyTime="")
    for number, dataset in enumerate((old, dateless, timeless)):
        put(archive, file_of(dataset), f"{number}.dcm")
    assert listed(archive) == {dateless.StudyInstanceUID, timeless.StudyInstanceUID}


def test_a_file_that_went_is_unavailable_not_unusable(archive: FolderArchive) -> None:
    dataset = make_dataset()
    path = put(archive, file_of(dataset), "one.dcm")
    (facts,) = archive.headers(dataset.StudyInstanceUID)
    assert isinstance(facts, InstanceFacts)
    path.unlink()
    with pytest.raises(ArchiveUnavailable, match="gone"):
        archive.radiograph(facts)


def test_a_missing_folder_is_unavailable_and_an_unknown_study_empty(archive: FolderArchive, tmp_path: Path) -> None:
    assert archive.instances("1.2.3") == []
    assert list(archive.headers("1.2.3")) == []
    with pytest.raises(ArchiveUnavailable):
        FolderArchive(tmp_path / "nowhere", site_zone=UTC).unreadable()


def test_many_threads_read_while_the_folder_grows(archive: FolderArchive) -> None:
    datasets = [make_dataset(WindowCenter="2048.00000000000001", WindowWidth="4096") for _ in range(24)]
    for number, dataset in enumerate(datasets[:12]):
        put(archive, file_of(dataset), f"{number}.dcm")

    def work(number: int) -> float:
        if number < 12:
            put(archive, file_of(datasets[12 + number]), f"{12 + number}.dcm")
        (facts,) = archive.headers(datasets[number % 12].StudyInstanceUID)
        assert isinstance(facts, InstanceFacts)
        return float(archive.radiograph(facts).pixels.sum())

    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(work, range(36)))
    assert len(set(sums)) == 1  # the same pixels under the same window, whatever else went on
    assert len(listed(archive)) == 24
    assert config.settings.reading_validation_mode == config.IGNORE


def test_a_cleaner_of_temporary_files_does_no_harm(archive: FolderArchive) -> None:
    first, second = make_dataset(), make_dataset()
    put(archive, file_of(first), "one.dcm")
    assert len(listed(archive)) == 1
    shutil.rmtree(archive._desk._links)
    put(archive, file_of(second), "two.dcm")
    assert len(listed(archive)) == 2
    for dataset in (first, second):
        (facts,) = archive.headers(dataset.StudyInstanceUID)
        assert isinstance(facts, InstanceFacts)
        assert archive.radiograph(facts).pixels.size


def test_a_forked_child_reads_for_itself(archive: FolderArchive) -> None:
    dataset = make_dataset()
    put(archive, file_of(dataset), "one.dcm")
    assert len(listed(archive)) == 1
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.write(write_end, str(len(listed(archive))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read_end, 9) == b"1"
    os.close(read_end)
    os.close(write_end)


def test_the_folder_is_only_read(archive: FolderArchive) -> None:
    put(archive, file_of(make_dataset()), "one.dcm")
    listed(archive)
    assert [path.name for path in archive._path.rglob("*")] == ["one.dcm"]


def test_headers_are_never_read_from_an_older_look(tmp_path: Path) -> None:
    first, late = make_dataset(), make_dataset()
    late.StudyInstanceUID = first.StudyInstanceUID
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    store(first, tmp_path)
    worker = FolderArchive(tmp_path, site_zone=UTC, settle_s=0)
    assert len(list(worker.headers(str(first.StudyInstanceUID)))) == 1
    desk = worker._desk
    desk._look_again_at = time.monotonic() + 60  # a large folder on a slow disk: looks are rare
    store(late, tmp_path)
    assert len(worker.instances(str(first.StudyInstanceUID))) == 1
    assert len(list(worker.headers(str(first.StudyInstanceUID)))) == 2
