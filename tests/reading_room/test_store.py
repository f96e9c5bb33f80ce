"""What lies in the study's folder: the table of cases, the protocol, and readings that survive whatever happens."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.reading_room.making import (
    CERTAIN,
    CODES,
    HEADER,
    NOON,
    Prepared,
    make_folder,
    make_study,
    mask,
    phantom,
    read_all,
    write_table,
)
from triage.domain.errors import Conflict, Misconfigured, Rejected, Unavailable
from triage.domain.finding import ChestClass
from triage.reading_room import picture
from triage.reading_room.cases import read_cases, read_truth
from triage.reading_room.prepared import PROTOCOL, check_files, load, save
from triage.reading_room.standing import Event, Kind
from triage.reading_room.store import Journal, held, read_events

# --- the table ---

GOOD = ["one", "a.png", "covid", 0.1, 0.2, 0.7, "lungs.png"]


@pytest.mark.parametrize(
    ("column", "cell", "complaint"),
    [
        ("caseID", "", "row 2, column caseID: is empty"),
        ("caseID", "a\x07b", "row 2, column caseID: is empty, longer than 64 characters or not printable"),
        ("file", "", "row 2, column file: names no file inside the folder"),
        ("file", "../outside.png", "row 2, column file: names no file inside the folder"),
        ("file", "link.png", "row 2, column file: names no file inside the folder"),
        ("file", "/etc/hostname", "row 2, column file: names no file inside the folder"),
        ("file", "cases.csv", "row 2, column file: cannot be shown (not-an-image"),
        ("file", "broken.png", "row 2, column file: cannot be shown (undecodable"),
        ("truth_class", "flu", "row 2, column truth_class: is none of normal, pneumonia, covid"),
        ("p_normal", "much", "row 2, column p_normal: is no number"),
        ("p_pneumonia", "", "row 2, column p_pneumonia: is no number"),
        ("p_covid", "1.5", "row 2, column p_covid: is no probability from 0 to 1"),
        ("p_covid", "nan", "row 2, column p_covid: is no probability from 0 to 1"),
        ("p_covid", "0.1", "row 2, column p_covid: the three probabilities do not add up to 1"),
        ("overlay", "../outside.png", "row 2, column overlay: names no file inside the folder"),
        ("overlay", "wide.png", "row 2, column overlay: cannot be shown (undecodable: the overlay has another shape"),
        ("overlay", "colour.png", "row 2, column overlay: cannot be shown (undecodable: an overlay is a grey mask"),
        ("overlay", "broken.png", "row 2, column overlay: cannot be shown (undecodable: no PNG"),
    ],
)
def test_a_fault_is_named_with_row_and_column(tmp_path: Path, column: str, cell: str, complaint: str) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    phantom(tmp_path / "outside.png", 1)
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    phantom(folder / "a.png", 2)
    mask(folder / "lungs.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    Image.new("L", (200, 100)).save(folder / "wide.png")
    Image.new("RGB", (100, 120)).save(folder / "colour.png")
    write_table(folder, [[cell if name == column else good for name, good in zip(HEADER, GOOD, strict=True)]])
    with pytest.raises(Rejected) as why:
        read_cases(folder)
    assert str(why.value).startswith(f"cases.csv, {complaint}")
    assert "outside" not in str(why.value) and "hostname" not in str(why.value)


def test_faults_between_rows_are_named_too(tmp_path: Path) -> None:
    phantom(tmp_path / "a.png", 1)
    phantom(tmp_path / "b.png", 2)
    bare = ("", "", "", "")
    for second, complaint in (
        (("one", "b.png", "covid", *bare), "row 3, column caseID: has been given to an earlier row"),
        (("two", "a.png", "covid", *bare), "row 3, column file: is the same image as in row 2"),
        (("two", "b.png", "covid", 0, 0, 1, ""), "row 2, column p_normal: is empty, and other rows have"),
        (("two", "b.png", "covid", "", "", "", "a.png"), "row 3, column overlay: is given, the probabilities it"),
        (("two", "b.png", "covid", *bare, "more"), "row 3: has more cells than the header"),
        (("two", "b.png", "covid"), None),
    ):
        write_table(tmp_path, [("one", "a.png", "normal", *bare), second])
        if complaint is None:
            assert [case.case_id for case in read_cases(tmp_path)[0]] == ["one", "two"]
            continue
        with pytest.raises(Rejected, match=f"^cases.csv, {complaint}"):
            read_cases(tmp_path)


def test_a_table_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"cases\.csv: cannot be read"):
        read_cases(tmp_path)
    for content, complaint in (
        (b"caseID,file\n", "row 1: needs one column truth_class"),
        (b"caseID,file,truth_class\n", "holds no case"),
        (b"\xff\xfe\x00", "cannot be read"),
    ):
        (tmp_path / "cases.csv").write_bytes(content)
        with pytest.raises(Rejected, match=complaint):
            read_cases(tmp_path)


def test_what_may_be_shown_and_the_truth_come_apart(tmp_path: Path) -> None:
    cases, truth = read_cases(make_folder(tmp_path))
    assert truth["secret-2"] is ChestClass.COVID and cases[2].probabilities == (0.125, 0.25, 0.625)
    assert "truth" not in vars(cases[2])


def test_probabilities_may_come_from_models_predict(tmp_path: Path) -> None:
    make_folder(tmp_path, 2, has_model=False)
    scores = tmp_path / "scores.csv"
    lines = ["file,image_id,p_normal,p_pneumonia,p_covid,eligible"]
    lines += [f"secret-{c}-{n}.png,x,0.5,0.25,0.25,true" for n, c in enumerate(("normal", "pneumonia"))]
    scores.write_text("\n".join([*lines, "cases.csv,cases.csv,,,,false"]))
    assert [case.probabilities for case in read_cases(tmp_path, scores)[0]] == [(0.5, 0.25, 0.25)] * 2
    scores.write_text("\n".join(lines[:2]))
    with pytest.raises(Rejected, match="row 3, column file: has no probabilities in the scores"):
        read_cases(tmp_path, scores)


def test_the_truth_is_that_of_the_prepared_table_or_none(tmp_path: Path) -> None:
    prepared = make_study(tmp_path)
    assert read_truth(tmp_path, prepared.study.table_sha256) == prepared.truth
    table = tmp_path / "cases.csv"
    table.write_text(table.read_text().replace("covid", "normal"))
    with pytest.raises(Conflict, match=r"cases\.csv has changed"):
        read_truth(tmp_path, prepared.study.table_sha256)


# --- pictures ---


def test_a_picture_is_grey_and_carries_nothing_but_pixels(tmp_path: Path) -> None:
    large = np.random.default_rng(1).integers(0, 65536, (3000, 1500)).astype(np.uint16)
    info = Image.Exif()
    info[0x010E] = "covid"
    Image.fromarray(large).save(tmp_path / "large.png", exif=info)
    shown = picture.radiograph(tmp_path / "large.png")
    assert (shown.size, shown.mode) == ((1024, 2048), "L")
    assert b"covid" in (tmp_path / "large.png").read_bytes() and b"covid" not in picture.png(shown)


def test_a_mask_becomes_its_outline_and_a_transparent_picture_stays(tmp_path: Path) -> None:
    def drawn(path: Path) -> Image.Image:
        return picture.layer(picture.overlay(path, (100, 120)))

    alpha = np.asarray(drawn(mask(tmp_path / "m.png")))[..., 3]
    height, width = alpha.shape
    assert alpha[height // 2, width * 30 // 100] == 0 and alpha[height // 2, width // 2] == 0
    assert alpha[height // 2, width * 13 // 100 : width * 18 // 100].max() == 255
    clear = Image.new("RGBA", (50, 60), (255, 140, 0, 90))
    clear.save(tmp_path / "clear.png", icc_profile=b"covid", dpi=(72, 72))
    assert drawn(tmp_path / "clear.png").getpixel((3, 3)) == (255, 140, 0, 90)
    sent = Image.open(io.BytesIO(picture.png(drawn(tmp_path / "clear.png"))))
    assert (sent.info, sent.getpixel((3, 3))) == ({}, (255, 140, 0, 90))
    half = np.zeros((60, 50), bool)
    half[:, 25:] = True
    for name, bits in (("bits", half), ("deep", half.astype(np.uint16) * 65535)):
        Image.fromarray(bits).save(tmp_path / f"{name}.png")
        alpha = np.asarray(drawn(tmp_path / f"{name}.png"))[..., 3]
        assert alpha[100, alpha.shape[1] // 2] == 255 and alpha[100, 100] == alpha[100, -100] == 0


# --- the protocol on disk ---


def test_the_protocol_comes_back_as_it_was_written(tmp_path: Path) -> None:
    prepared = make_study(tmp_path)
    assert load(tmp_path) == prepared.study


def test_study_json_holds_neither_truth_nor_codes_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    make_study(tmp_path)
    stored = json.loads((tmp_path / PROTOCOL).read_text())
    assert (tmp_path / PROTOCOL).stat().st_mode & 0o077 == 0
    assert "truth" not in json.dumps(stored) and set(stored["readers"][0]) == {"readerID", "code", "order"}
    assert not any(code.replace("-", "") in json.dumps(stored).replace("-", "") for code in CODES.values())


def test_a_study_is_prepared_once(tmp_path: Path) -> None:
    prepared = make_study(tmp_path)
    with pytest.raises(Conflict, match="has been prepared"):
        save(prepared.study, anew=True)


def test_a_protocol_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="prepare"):
        load(tmp_path)
    for content, complaint in (("{", "damaged"), ('{"format": 9}', "format 9"), ('{"format": 1}', "damaged")):
        (tmp_path / PROTOCOL).write_text(content)
        with pytest.raises(Misconfigured, match=complaint):
            load(tmp_path)


def test_an_image_that_changed_stops_the_study(tmp_path: Path) -> None:
    prepared = make_study(tmp_path)
    check_files(prepared.study)
    phantom(tmp_path / prepared.study.cases["secret-4"].file, 99)
    with pytest.raises(Conflict, match=r"case 5: its file is missing, or not the one"):
        check_files(prepared.study)
    (tmp_path / "lungs.png").unlink()
    with pytest.raises(Conflict, match="case 1"):
        check_files(prepared.study)


# --- the readings ---


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return make_study(tmp_path)


def journal(prepared: Prepared, reader: str = "R01") -> Journal:
    return Journal(prepared.study.journal_of(reader), prepared.study.orders[reader])


def test_what_was_stored_comes_back(prepared: Prepared) -> None:
    first = journal(prepared)
    for event in read_all(first.order):
        first.append(event)
    assert journal(prepared).events == first.events == read_all(first.order)
    assert first.path.stat().st_mode & 0o077 == 0
    line = json.loads(first.path.read_text().splitlines()[1])
    assert line["response_class"] == "covid" and line["score_covid"] == 95 and line["at"].endswith("+00:00")


@pytest.mark.parametrize("torn", [b"{", b'{"at": "2026-11-02T12:01:00+00:00", "event": "re', b"\0\0\0\0", b"\xff"])
def test_a_torn_last_line_is_left_out_and_the_next_one_takes_its_place(prepared: Prepared, torn: bytes) -> None:
    first = journal(prepared)
    events = read_all(first.order)
    first.append(events[0])
    with first.path.open("ab") as file:
        file.write(torn)
    again = journal(prepared)
    assert again.events == events[:1]
    again.append(events[1])
    assert journal(prepared).events == events[:2]


def test_a_damaged_line_in_the_middle_is_not_passed_over(prepared: Prepared) -> None:
    first = journal(prepared)
    for event in read_all(first.order)[:4]:
        first.append(event)
    lines = first.path.read_text().splitlines(keepends=True)
    for changed, complaint in (
        ([lines[0], "not a line\n", *lines[2:]], "line 2: damaged"),
        ([lines[0].replace('"session": 1', '"session": 2')], "line 1: damaged"),
        ([lines[0].replace('"number": 0', '"number": -1')], "line 1: damaged"),
        ([*lines[:2], lines[3]], "line 3: out of order"),
        ([lines[1]], "line 1: out of order"),
    ):
        first.path.write_text("".join(changed))
        with pytest.raises(Misconfigured, match=complaint):
            journal(prepared)


def test_a_full_disk_changes_nothing_and_says_so(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    first = journal(prepared)
    events = read_all(first.order)
    first.append(events[0])
    whole = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda opened, line: whole(opened, line[:20]))
        with pytest.raises(Unavailable, match="does not count"):
            first.append(events[1])
    assert first.events == events[:1] and journal(prepared).events == events[:1]
    first.append(events[1])
    assert journal(prepared).events == events[:2]


KILLED = """
import sys
from pathlib import Path
from tests.reading_room.making import read_all
from triage.reading_room.prepared import load
from triage.reading_room.store import Journal, held

study = load(Path(sys.argv[1]))
with held(study.readings):
    journal = Journal(study.journal_of("R01"), study.orders["R01"])
    for event in read_all(journal.order):
        journal.append(event)
        print(event.number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9_and_the_folder_is_free_again(prepared: Prepared) -> None:
    folder = prepared.study.folder
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, cwd=root) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(5)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    order = prepared.study.orders["R01"]
    kept, _ = read_events(prepared.study.journal_of("R01"), order)
    assert len(kept) >= len([line for line in acknowledged if line.endswith(b"\n")]) >= 5
    assert kept == read_all(order)[: len(kept)]
    with held(prepared.study.readings):
        journal(prepared)


def test_two_processes_do_not_serve_one_study(prepared: Prepared) -> None:
    with (
        held(prepared.study.readings),
        pytest.raises(Conflict, match="another process"),
        held(prepared.study.readings),
    ):
        pass


def test_every_change_of_a_reading_is_kept(prepared: Prepared) -> None:
    first = journal(prepared)
    first.append(Event(Kind.OPENED, NOON, 0))
    for score in (95, 60, 95):
        at = NOON + timedelta(seconds=score)
        first.append(Event(Kind.READ, at, 0, type(CERTAIN)(ChestClass.COVID, (0, 5, score))))
    given = [event.reading for event in journal(prepared).events if event.reading]
    assert [reading.scores[2] for reading in given] == [95, 60, 95]
