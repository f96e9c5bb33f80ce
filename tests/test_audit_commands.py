"""`triage audit` and `triage reader-study` as an operator runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.making import make_assessment, make_order, make_study
from tests.postgres.ward import Ward, ward_on
from triage.__main__ import main
from triage.postgres.connect import Pool

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Run:
    """Runs a command against the test's database and returns its exit status."""
    monkeypatch.setenv("TRIAGE_DATABASE_URL", database_url)
    monkeypatch.setenv("TRIAGE_SITE", "north")

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(words)
        return int(ended.value.code or 0)

    return run


def assessed(ward: Ward, accession: str = "") -> str:
    """A study with a result; its UID."""
    study = make_study(accession_number=accession, patient=make_order().patient)
    ward.sees(study)
    (lease,) = ward.lease()
    ward.book.record(lease, make_assessment(covid=0.9))
    return study.study_instance_uid


def test_labels_are_imported_line_by_line_and_what_cannot_be_taken_is_named(
    run: Run, pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ward = ward_on(pool)
    first, second, third = assessed(ward), assessed(ward), assessed(ward)
    lines = [
        "study_instance_uid,accession_number,class,report_text,source,given_by,valid_from,saw_the_ai",
        f"{first},,covid,,rt-pcr,lab,2026-03-01T08:00:00+00:00,0",
        f'{second},,,"IMPRESSION: Right lower lobe pneumonia.",report-text,ris,,1',
        f"{third},,,両肺野に異常を認めない。,report-text,ris,,1",
        f"{first},,flu,,rt-pcr,lab,,0",
        "9.9.9,,covid,,rt-pcr,lab,,0",
        f"{first},,covid,,rt-pcr,lab,yesterday,0",
    ]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run("audit", "import-labels", str(file)) == 1
    said = capsys.readouterr().out
    assert "3 labels kept" in said and "3 refused" in said
    assert "line 5" in said and "line 6" in said and "line 7" in said
    assert [(r["class"], r["source"], r["saw_the_ai"]) for r in ward.rows("SELECT * FROM label ORDER BY id")] == [
        ("covid", "rt-pcr", False),
        ("pneumonia", "report-text", True),
        ("normal", "report-text", True),
    ]
    assert "pneumonia." not in said, "no report text is printed"


def test_a_file_without_the_columns_is_a_configuration_error(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("uid,class\n")
    assert run("audit", "import-labels", str(file)) == 2


def test_a_report_without_a_baseline_says_what_is_missing_and_is_written_out(
    run: Run, pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assessed(ward_on(pool))
    assert run("audit", "freeze", "--by", "QA") == 0
    assert run("audit", "report", "--out", str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "INSUFFICIENT" in said
    body = json.loads((tmp_path / "report.json").read_text())
    assert body["counts"]["studies"] == 1 and any("accept" in a for a in body["actions"])
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "report.json", "report.csv", "summary.md"}


def test_the_sample_needs_a_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("audit", "sample") == 2
    monkeypatch.setenv("TRIAGE_AUDIT_SECRET", "short")
    assert run("audit", "sample") == 2
    monkeypatch.setenv("TRIAGE_AUDIT_SECRET", "sixteen bytes at least")
    assert run("audit", "sample") == 0


def test_one_label_is_kept_for_a_study_named_by_its_accession(run: Run, pool: Pool) -> None:
    ward = ward_on(pool)
    assessed(ward, accession="ACC-9")
    assert run("audit", "label", "--accession", "ACC-9", "--class", "covid", "--source", "rt-pcr", "--by", "lab") == 0
    assert ward.one("SELECT source FROM label") == "rt-pcr"
    assert run("audit", "label", "--accession", "ACC-0", "--class", "covid", "--source", "rt-pcr", "--by", "lab") == 1


def test_a_made_up_study_is_analysed_whole(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = tmp_path / "study.csv", tmp_path / "out"
    assert run("reader-study", "example", "--out", str(table), "--readers", "4", "--cases", "30") == 0
    assert run("reader-study", "analyse", str(table), "--out", str(out), "--synthetic", "--bayes") == 0
    page = (out / "report.html").read_text()
    assert "SYNTHETIC" in page and "<script" not in page
    for words in ("What the model changes", "Variance components", "Item-response model", "Pooled ROC"):
        assert words in page
    body = json.loads((out / "report.json").read_text())
    assert body["nominal_response_model"]["help"]["accuracy"]["median"] is not None
    assert run("reader-study", "to-imrmc", str(table), "--class", "covid", "--out", str(tmp_path / "i.csv")) == 0
    capsys.readouterr()
    assert run("reader-study", "analyse", str(tmp_path / "i.csv"), "--out", str(out)) == 0
    assert capsys.readouterr().out.startswith("AUC with - without")


def test_a_table_that_cannot_be_read_names_the_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "study.csv"
    assert run("reader-study", "example", "--out", str(table), "--readers", "2", "--cases", "6") == 0
    lines = table.read_text().splitlines()
    lines[3] = lines[3].replace(lines[3].split(",")[4], "flu", 1)
    table.write_text("\n".join(lines))
    assert run("reader-study", "analyse", str(table), "--out", str(tmp_path / "out")) == 2
    assert "line 4" in capsys.readouterr().err
