"""Logs hold events, codes and places, never what a library quotes in its exceptions."""

from __future__ import annotations

import json
import logging
import sys

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
    warning = logging.LogRecord("py.warnings", logging.WARNING, "f", 1, "x.py:3: UserWarning: Geheim\n  line", (), None)
    lines = [JsonLines().format(record) for record in (fault, warning)]
    assert not [line for line in lines if "Geheim" in line]
    assert json.loads(lines[0])["event"] == "task sweep_archive failed"
    assert json.loads(lines[1])["event"] == "a warning: UserWarning"
