"""External validation: what is counted, what is frozen, and that no look goes unrecorded."""

import argparse
import csv
import json
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models import baseline, preprocess
from models.card import read
from models.engine import WEIGHTS, Engine, Reading
from models.training import data, evaluate, external, ledger, overlaps, scores
from tests.models.making import draw_chest
from tests.models.test_training import make_case
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import ChestClass

LABELS = [str(c) for c in ChestClass]


def make_scored(n: int = 60, seed: int = 1, **changes: object) -> scores.Scored:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    logits = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[labels]
    cases = [make_case(image_id=str(i), patient_id=str(i // 2), label=LABELS[i % 3], **changes) for i in range(n)]
    return scores.Scored.of(cases, np.exp(logits) / np.exp(logits).sum(1, keepdims=True))


def figure(found: scores.Figures, what: str, on: str = "here") -> dict:
    return next(f for f in found if f["what"] == what and f["on"] == on)


def test_the_three_recalls_stand_together() -> None:
    scored = make_scored()
    found = scores.class_figures(scored, "here")
    assert [f["what"] for f in found[-3:]] == [f"recall {code}" for code in LABELS]
    mean = np.mean([f["value"] for f in found[-3:]])
    assert figure(found, "balanced accuracy")["value"] == pytest.approx(mean, abs=1e-3)


def test_a_case_without_probabilities_is_a_miss_in_every_class() -> None:
    scored = make_scored()
    silent = np.arange(60) < 12
    known = np.where(silent[:, None], np.nan, scored.probability)
    found = scores.class_figures(scores.Scored(scored.cases, known, scored.labels), "here")
    right = (scored.chosen == scored.labels) & ~silent
    assert figure(found, "accuracy")["value"] == pytest.approx(right.mean(), abs=1e-3)
    assert figure(found, "accuracy")["n"] == 60


def test_two_images_of_a_patient_count_as_one() -> None:
    cases = [make_case(image_id=str(i), patient_id=str(i // 2)) for i in range(40)]
    hits = np.arange(40) % 4 < 2
    both, alone = (scores.part_of("x", "y", some, h) for some, h in ((cases, hits), (cases[::2], hits[::2])))
    assert (both["value"], both["low"], both["high"]) == (alone["value"], alone["low"], alone["high"])
    assert both["n"] == 40 and both["interval"] == "Wilson, worth 20 independent images"
    assert scores.part_of("x", "y", [], np.zeros(0, dtype=bool))["value"] is None


def test_covid_against_pneumonia_asks_only_where_one_source_holds_both() -> None:
    both = make_scored(source="web_eurorad")
    assert [f["on"] for f in scores.covid_against_pneumonia(both, "external")] == ["external, web_eurorad"]
    apart = scores.Scored.of(
        [make_case(label=c.label, source=c.label, patient_id=c.patient_id) for c in both.cases], both.probability
    )
    assert scores.covid_against_pneumonia(apart, "external") == []


def test_too_few_cases_are_called_insufficient_not_measured() -> None:
    few = make_scored(24)
    found = scores.part_figures(few, "here", 0.5)
    assert all(f["value"] is None and f["interval"].startswith("insufficient") for f in found)
    assert all(f["value"] is not None for f in scores.part_figures(make_scored(60), "here", 0.5))


@pytest.mark.parametrize(
    ("age", "band"), [(None, "unknown"), (8, "under 18"), (18, "18-39"), (64.9, "40-64"), (65, "65 and over")]
)
def test_age_bands(age: float | None, band: str) -> None:
    assert scores.age_band(age) == band


@pytest.mark.parametrize(
    ("sex", "view", "expected"),
    [("male", "AP Supine", ("M", "AP")), ("F", "PA", ("F", "PA")), ("", "", ("unknown",) * 2)],
)
def test_sex_and_view_are_read_however_the_source_spells_them(sex: str, view: str, expected: tuple[str, str]) -> None:
    case = make_case(sex=sex, view=view)
    assert (scores.sex_of(case), scores.view_of(case)) == expected


def test_every_subgroup_is_a_part_and_no_case_is_lost() -> None:
    scored = make_scored()
    parts = scores.parts(scored)
    assert {"nih_cxr14", "sex F", "view PA"} <= set(parts)
    assert sum(len(p.cases) for name, p in parts.items() if name.startswith("age ")) == 60


def test_each_look_adds_exactly_one_line_to_the_ledger(tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "docs" / "ledger.jsonl"
    figures = scores.class_figures(make_scored(), "external")
    for n in (1, 2, 3):
        before = path.read_text() if path.exists() else ""
        ledger.add_look(path, "external-validation", engine, figures, datetime(2026, 1, n, tzinfo=UTC))
        assert path.read_text().startswith(before), "nothing written earlier is touched"
        assert len(path.read_text().splitlines()) == n
    ledger.check_chain(path.read_text().splitlines())
    assert json.loads(path.read_text().splitlines()[0])["classifier"]["card_sha256"] == engine.classifier.card_sha256


def test_a_ledger_that_was_rewritten_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for n in range(3):
        ledger.append(path, {"look": n})
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, second.replace("1}", "7}"), third]) + "\n")
    with pytest.raises(ValueError, match="line 3"):
        ledger.append(path, {"look": 3})
    path.write_text(second + "\n")
    with pytest.raises(ValueError, match="line 1"):
        ledger.append(path, {"look": 3})


def test_the_checked_in_ledger_is_whole() -> None:
    path = Path(__file__).parents[2] / ledger.LEDGER
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines
    ledger.check_chain(lines)
    looked_at = {json.loads(line)["classifier"]["weights_sha256"] for line in lines}
    assert read(WEIGHTS / "chest.json")[0].weights_sha256 in looked_at, "the shipped weights have a recorded look"


def make_reading(gate_score: float = 1.0, **changes: object) -> Reading:
    reading = Reading(
        logits=np.zeros(3),
        probabilities=np.array([0.3, 0.1, 0.6]),
        embedding=np.arange(1280, dtype=np.float32),
        gate_score=gate_score,
        activation=np.zeros((3, 5, 5), dtype=np.float32),
        activation_outside=0.2,
        mask=np.eye(8, dtype=bool),
        crop=None,  # type: ignore[arg-type]
        statistics={"mean": 0.5},
    )
    return replace(reading, **changes)  # type: ignore[arg-type]


def test_the_frozen_baseline_names_nobody_and_survives_storage(engine: Engine) -> None:
    cases = [make_case(image_id=f"image-{i}", patient_id="patient-7", role="external") for i in range(3)]
    outcomes = [make_reading(), make_reading(gate_score=1e9), UnusableRadiograph("lungs-implausible")]
    frozen = external.freeze(engine, cases, outcomes)
    text = frozen.to_json()
    assert baseline.Baseline.from_json(text) == frozen
    assert "image-" not in text and "patient-7" not in text
    assert len({c.patient for c in frozen.cases}) == 1 and len({c.case for c in frozen.cases}) == 3
    assert sorted((c.refused or "", c.probabilities is None) for c in frozen.cases) == [
        ("", False),
        ("lungs-implausible", True),
        ("out-of-distribution", False),
    ]
    assert external.freeze(engine, cases[::-1], outcomes[::-1]).to_json() == text
    assert frozen.classifier["card_sha256"] == engine.classifier.card_sha256


def test_a_baseline_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text('{"schema": 99, "cases": []}')
    with pytest.raises(Exception, match=r"baseline\.json"):
        baseline.read(path)


def test_the_projection_is_fixed_and_keeps_distances() -> None:
    points = np.random.default_rng(1).normal(size=(200, 1280))
    small = baseline.projected(points)
    assert np.array_equal(small, baseline.projected(points))
    assert small[:1] == pytest.approx(baseline.projected(points[:1]))
    pairs = [(0, 1), (5, 100), (7, 150)]
    for a, b in pairs:
        ratio = np.linalg.norm(small[a] - small[b]) / np.linalg.norm(points[a] - points[b])
        assert 0.6 < ratio < 1.4


def test_the_card_s_first_external_figure_comes_out_again(cxr: Path, engine: Engine) -> None:
    cases = [c for c in data.external_cases(data.read_manifest(cxr)) if c.source == "web_eurorad"]
    found, _ = evaluate.chest_figures(engine, cases, evaluate.readings(engine, cases, "eurorad"), "external")
    assert found[0]["what"] == "AUC COVID against pneumonia within one source"
    known = {(f["what"], f["on"]): f["value"] for f in engine.cards["chest"].performance}
    again = [f for f in found if f["on"] == "external, web_eurorad" and f["value"] is not None]
    assert len(again) > 3
    for f in again:
        if (f["what"], f["on"]) in known:
            assert f["value"] == pytest.approx(known[f["what"], f["on"]], abs=evaluate.TOLERANCE), f["what"]


def test_the_frozen_baseline_is_that_of_the_shipped_weights(engine: Engine) -> None:
    frozen = baseline.read(WEIGHTS / baseline.FILE)
    assert dict(frozen.classifier) == asdict(engine.classifier), "run: python -m models external-validation --write"
    assert dict(frozen.segmenter) == asdict(engine.segmenter)
    assert {c.source for c in frozen.cases} == {"montgomery", "web_eurorad"}
    said = [c for c in frozen.cases if c.probabilities is not None]
    assert all(sum(c.probabilities or ()) == pytest.approx(1, abs=1e-4) for c in said)
    assert all(len(c.coordinates or ()) == baseline.COORDINATES for c in said)


def test_the_frozen_cases_come_out_again(cxr: Path, engine: Engine) -> None:
    frozen = baseline.read(WEIGHTS / baseline.FILE)
    known = {c.case: c for c in frozen.cases}
    cases = data.external_cases(data.read_manifest(cxr))
    assert set(known) == {baseline.pseudonym("image", c.image_id) for c in cases}
    for case, outcome in zip(cases[:24], evaluate.readings(engine, cases[:24], "again"), strict=True):
        stored = known[baseline.pseudonym("image", case.image_id)]
        assert (stored.probabilities is None) is isinstance(outcome, UnusableRadiograph)
        if isinstance(outcome, Reading):
            assert stored.probabilities == pytest.approx(outcome.probabilities, abs=0.01)


def test_without_imagenet_weights_the_frozen_baseline_is_skipped_visibly(cxr: Path, engine: Engine) -> None:
    from rich.console import Console

    console = Console(record=True)
    cases = data.external_cases(data.read_manifest(cxr))
    outcomes = [UnusableRadiograph("blank")] * 6 + [make_reading()] * (len(cases) - 6)
    found = external.baseline_figures(data.read_manifest(cxr), cases, engine, outcomes, None, console)
    assert "SKIPPED" in console.export_text()
    assert any(f["on"] == "external, trivial features" and f["n"] == len(cases) - 6 for f in found)
    assert any(f["on"] == "external, trivial features, refused included" and f["n"] == len(cases) for f in found)


def test_verdicts_compare_the_lower_limit_with_what_the_baseline_reached() -> None:
    ours = [{"what": "balanced accuracy", "on": "external", "value": 0.7, "low": 0.6, "high": 0.8}]
    trivial = [{"what": "balanced accuracy", "on": "external, trivial features", "value": 0.59}]
    (said,) = external.verdicts(ours, trivial)
    assert "is above" in said
    (said,) = external.verdicts(ours, [{**trivial[0], "value": 0.61}])
    assert "NOT above" in said


def test_the_command_is_known() -> None:
    parser = argparse.ArgumentParser()
    external.add_command(parser.add_subparsers())
    arguments = parser.parse_args(["external-validation", "--cxr", "x"])
    assert arguments.ledger == ledger.LEDGER and not arguments.write


def test_a_lung_network_alone_finds_what_the_engine_finds(engine: Engine) -> None:
    square = preprocess.squared(draw_chest())
    (alone,) = overlaps.LungNetwork(WEIGHTS, "lungs").lung_probability([square])
    (together,) = engine.lung_probability([square])
    assert np.abs(alone - together).mean() < 0.01, "full precision against whatever the engine runs in"


@pytest.mark.parametrize("role", ["dev", "external"])
def test_lungs_are_measured_only_on_masks_of_one_convention(cxr: Path, role: str) -> None:
    for name, origin, cases in overlaps.lung_sets(data.read_manifest(cxr), role):
        assert cases and all(c.mask_of(origin) for c in cases)
        assert ("manual" in name) is ("manual" in origin)
        assert all((c.role == "external") is (role == "external") for c in cases)


def make_small_folder(cxr: Path, folder: Path) -> Path:
    """A few radiographs of each kind the command asks for, as a folder of their own."""
    wanted = {
        ("external", "montgomery", "normal"): 4,
        ("external", "web_eurorad", "pneumonia"): 4,
        ("external", "web_eurorad", "covid"): 4,
        ("dev", "nih_cxr14", "normal"): 5,
        ("dev", "nih_cxr14", "pneumonia"): 5,
        ("dev", "hannover", "covid"): 5,
    }
    folder.mkdir()
    with (cxr / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (cxr / "masks.csv").open(newline="", encoding="utf-8") as file:
        masks = list(csv.DictReader(file))
    masked = {m["image_id"] for m in masks}
    rows.sort(key=lambda r: r["image_id"] not in masked)
    kept = [
        r for key, n in wanted.items() for r in [r for r in rows if (r["role"], r["source"], r["label"]) == key][:n]
    ]
    names = {r["image_id"] for r in kept}
    for name, some, column in (("manifest.csv", kept, "file"), ("masks.csv", masks, "mask_path")):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(some[0]))
            writer.writeheader()
            writer.writerows({**r, column: str(cxr / r[column])} for r in some if r["image_id"] in names)
    return folder


def test_a_run_adds_one_line_and_run_again_freezes_the_same_bytes(cxr: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(WEIGHTS, weights)
    arguments = argparse.Namespace(
        cxr=make_small_folder(cxr, tmp_path / "cxr"),
        weights=weights,
        imagenet=None,
        ledger=tmp_path / "ledger.jsonl",
        write=True,
        threads=1,
    )
    stored = []
    for n in (1, 2):
        external.run(arguments)
        assert len(arguments.ledger.read_text().splitlines()) == n
        stored.append({p.name: p.read_bytes() for p in weights.iterdir() if p.is_file()})
    assert stored[0] == stored[1]
    assert len(baseline.read(weights / baseline.FILE).cases) == 12
    card, identity = read(weights / "chest.json")
    assert baseline.read(weights / baseline.FILE).classifier["card_sha256"] == identity.card_sha256
    assert card.weights_sha256 == read(WEIGHTS / "chest.json")[0].weights_sha256
    arguments.write = False
    external.run(arguments)
    assert {p.name: p.read_bytes() for p in weights.iterdir() if p.is_file()} == stored[1], (
        "a look changes nothing but the ledger"
    )
    assert len(arguments.ledger.read_text().splitlines()) == 3
