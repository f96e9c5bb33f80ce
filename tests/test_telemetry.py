"""Logs hold events, codes and places, never what a library quotes in its exceptions."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings

import pytest
from celery import Celery

from triage.tasks import app
from triage.telemetry import JsonLines


def test_a_fault_is_logged_without_its_message() -> None:
    try:
        raise ValueError("PatientName is Geheim^Nome")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "study %s failed", ("1.2.3",), sys.exc_info())
    line = JsonLines().format(record)
    assert "Geheim" not in line
    told = json.loads(line)
    assert told["event"] == "study 1.2.3 failed" and told["fault"]["type"] == "ValueError"
    assert "test_a_fault_is_logged_without_its_message" in told["fault"]["stack"][-1]


def test_no_task_takes_an_argument() -> None:
    own = {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}
    assert set(own) >= {"assess", "deliver", "sweep_archive", "sweep_orders", "offer_expired"}
    assert {name: task.run.__code__.co_argcount for name, task in own.items()} == dict.fromkeys(own, 0)


def test_what_celery_and_warnings_quote_does_not_reach_the_log() -> None:
    fault = logging.LogRecord(
        "celery.app.trace", logging.ERROR, "f", 1, "Task raised: %(exc)s", ({"exc": "Geheim"},), None
    )  # fmt: skip
    fault.data = {"name": "sweep_archive", "exc": "UniqueViolation('Geheim')"}
    told = warnings.formatwarning("Geheim", UserWarning, "/lib/x.py", 3, "line")
    warning = logging.LogRecord("py.warnings", logging.WARNING, "f", 1, "%s", (told,), None)
    lines = [JsonLines().format(record) for record in (fault, warning)]
    assert not [line for line in lines if "Geheim" in line]
    assert json.loads(lines[0])["event"] == "task sweep_archive failed"
    assert json.loads(lines[1])["event"] == "a warning: UserWarning at x.py:3"


@pytest.mark.parametrize("name", ["celery", "celery.worker.consumer.consumer"])
def test_a_celery_logger_that_carries_a_fault_is_quoted_at_no_level(name: str) -> None:
    try:
        raise OSError("Geheim")
    except OSError as why:
        record = logging.LogRecord(name, logging.WARNING, "f", 1, "lost: %r", (why,), sys.exc_info())
    assert "Geheim" not in JsonLines().format(record)


def test_a_task_that_raises_is_logged_by_celery_without_the_words_of_the_fault() -> None:
    own = Celery("test")

    @own.task(name="breaks")
    def breaks() -> None:
        raise ValueError("Key (name)=(Geheim^Nome) already exists")

    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    trace = logging.getLogger("celery.app.trace")
    trace.addHandler(handler)
    try:
        breaks.apply()
    finally:
        trace.removeHandler(handler)
    assert "Geheim" not in written.getvalue()
    told = json.loads(written.getvalue().splitlines()[-1])
    assert (told["event"], told["fault"]["type"]) == ("task breaks failed", "ValueError")
    assert told["fault"]["stack"][-1].endswith(" breaks")
