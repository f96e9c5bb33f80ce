"""One judgement of a made-up hospital: what it says when nothing, the mix, the images or the model have changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.hospital import SCENARIOS, Scenario, evidence_of, made, validation
from triage.audit import exports
from triage.audit.evidence import AuditRules, Evidence
from triage.audit.judgement import digest_of, judge
from triage.audit.page import page_of
from triage.audit.plain import to_json
from triage.audit.states import State

RULES = AuditRules(draws=60, recent_days=120, alpha_year=0.6)
BY_NAME = {s.name: s for s in SCENARIOS}


def evidence(scenario: Scenario = SCENARIOS[0], *, as_of_day: int = 365, seed: int = 3, **rules: Any) -> Evidence:
    """A year of 20 studies a day, 120 days of it the acceptance, and an external validation of 600 cases."""
    year = made(scenario, a_day=20, change=240, seed=seed)
    found = evidence_of(year, as_of_day=as_of_day, external=validation(cases=600), rules=replace(RULES, **rules))
    return found


@pytest.fixture(scope="module")
def quiet() -> Any:
    """Nothing changed."""
    return judge(evidence())


def test_a_year_without_change_is_in_control(quiet: Any) -> None:
    assert (quiet.external, quiet.change, quiet.cause) == ("IN CONTROL", "IN CONTROL", "none")
    assert not quiet.is_alarm
    assert quiet.sentence.startswith("The model still performs as in external validation")


def test_a_window_of_five_is_insufficient_and_nothing_else() -> None:
    found = evidence()
    few = np.arange(5)
    labelled = replace(found.labelled, **{
        name: getattr(found.labelled, name)[few]
        for name in ("delay", "age", "source", "reader_saw_ai", "design_weight")
    })  # fmt: skip
    said = judge(replace(found, studies=found.studies.where(few), labelled=labelled))
    assert (said.external, said.change) == (State.INSUFFICIENT, State.INSUFFICIENT)
    assert not said.is_alarm
    assert said.cause in {"not known", "none"}


def test_an_empty_site_is_insufficient() -> None:
    found = evidence()
    none = np.arange(0)
    labelled = replace(found.labelled, **{
        name: getattr(found.labelled, name)[none]
        for name in ("delay", "age", "source", "reader_saw_ai", "design_weight")
    })  # fmt: skip
    said = judge(replace(found, studies=found.studies.where(none), labelled=labelled, local=None))
    assert (said.external, said.change) == ("INSUFFICIENT", "INSUFFICIENT")
    assert "triage audit accept" in page_of(said.body)


def test_covid_becoming_frequent_is_no_fault_of_the_model() -> None:
    said = judge(evidence(BY_NAME["COVID twice as frequent"]))
    assert said.cause == "prior-only"
    assert (said.external, said.change) == ("IN CONTROL", "IN CONTROL")
    assert not said.is_alarm
    assert "worse" not in said.sentence.replace("has become worse here", "")


@pytest.fixture(scope="module")
def worse() -> Any:
    """Ten points worse from day 240 on; January's test of the cause was made before."""
    before = [{"year": 1971, "month": 1, "family": "drift and cause", "alpha": 0.02}]
    return judge(evidence(BY_NAME["accuracy 10 points lower"]), before)


def test_a_model_that_answers_ten_points_worse_raises_an_alarm_after_the_change(worse: Any) -> None:
    said = worse
    assert said.change == "ALARM" and said.is_alarm
    assert 240 <= said.body["change"]["detectors"]["accuracy"]["first_alarm_day"] <= 330
    assert any("Sign this report" in a for a in said.body["actions"])
    assert "1970-" in said.body["verdicts"]["change"]["reason"], "days are dates"


def test_another_detector_is_found_in_the_images() -> None:
    said = judge(evidence(BY_NAME["a new detector vendor"]))
    assert said.cause.startswith("covariate")
    marked = {r["name"] for r in said.body["drift"]["inputs"] if r["state"] == "WATCH"}
    assert {"manufacturer", "pixel mean"} <= marked
    assert "age" not in marked


def test_the_same_evidence_gives_the_same_bytes(quiet: Any) -> None:
    assert to_json(judge(evidence()).body) == to_json(quiet.body)


def test_another_label_gives_another_digest(quiet: Any) -> None:
    found = evidence()
    truth = found.studies.truth.copy()
    truth[0] = (truth[0] + 1) % 3
    assert digest_of(found) == quiet.body["data_sha256"]
    assert digest_of(replace(found, studies=replace(found.studies, truth=truth))) != quiet.body["data_sha256"]


def test_a_cause_is_tested_for_once_a_month_and_after_an_alarm(worse: Any) -> None:
    before = [{"year": 1971, "month": 1, "family": "drift and cause", "alpha": 0.02}]
    again = judge(evidence(), before)
    assert again.cause == "not tested" and not again.spent
    assert worse.cause != "not tested" and not worse.spent


def test_a_spent_year_tests_no_more() -> None:
    before = [{"year": 1971, "month": m, "family": "drift and cause", "alpha": 0.3} for m in (2, 3)]
    assert judge(evidence(), before).cause == "not tested"


def test_the_page_stands_alone_and_says_what_matters(quiet: Any) -> None:
    html = page_of(quiet.body)
    assert len(html.encode()) < 1_000_000
    assert "<script" not in html and "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    for words in (quiet.sentence, "IN CONTROL", "Small print", "not flagged means no effect", "Watched every day"):
        assert words in html


def test_what_a_site_calls_itself_is_no_markup(quiet: Any) -> None:
    html = page_of({**quiet.body, "site": "<b onload=x>"})
    assert "<b onload" not in html


def test_the_registry_export_has_a_row_for_each_figure(quiet: Any) -> None:
    lines = exports.registry_csv(quiet.body).splitlines()
    assert lines[0].split(",") == list(exports.COLUMNS)
    assert sum(",performance," in line for line in lines) == len(quiet.body["performance"]["figures"])
    assert all(line.count(",") == lines[0].count(",") for line in lines)


def test_the_summary_names_device_data_standard_and_limitations(quiet: Any) -> None:
    text = exports.performance_summary(quiet.body)
    for words in ("**Device.**", "**Reference standard.**", "**Results.**", "**Limitations.**", "| accuracy |"):
        assert words in text
