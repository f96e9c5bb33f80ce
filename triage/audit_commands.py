"""`triage audit ...`: freeze, accept, take labels, draw the sample, judge and sign; each names what it did."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from triage import quality
from triage.audit import exports
from triage.audit.page import page_of
from triage.audit.plain import to_json
from triage.audit.report_outcome import Certainty
from triage.audit.report_text import read_report
from triage.domain.errors import Misconfigured, Rejected

Run = Callable[[argparse.Namespace], int]
DeskOf = Callable[[], quality.Desk]
LABEL_COLUMNS = ("study_instance_uid", "accession_number", "class", "report_text", "source", "given_by", "valid_from",
                 "saw_the_ai")  # fmt: skip


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], desk_of: DeskOf, weights: Callable[[], Path]
) -> None:
    """The audit desk's commands; each sets `run`, which returns the exit status."""

    def command(name: str, run: Run, words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(run=run)
        return added

    freeze = command(
        "freeze", lambda chosen: _freeze(chosen, desk_of(), weights()), "Freeze the shipped external validation."
    )
    freeze.add_argument("--by", required=True, help="who freezes it")

    accept = command(
        "accept", lambda chosen: _accept(chosen, desk_of()), "Freeze the site's own labelled studies as its baseline."
    )
    accept.add_argument("--from", dest="start", type=_instant, required=True, help="ISO date or instant")
    accept.add_argument("--until", type=_instant, required=True)
    accept.add_argument("--by", required=True, help="who accepts")

    label = command("label", lambda chosen: _label(chosen, desk_of()), "Keep what is true of one study.")
    label.add_argument("--study", default="", help="Study Instance UID")
    label.add_argument("--accession", default="")
    label.add_argument("--class", dest="cls", required=True, choices=("normal", "pneumonia", "covid", "other"))
    label.add_argument("--source", required=True, help="rt-pcr, ct-adjudication, consensus, audit-read, final-report")
    label.add_argument("--by", required=True)
    label.add_argument("--at", type=_instant, help="since when it holds (default: now)")
    label.add_argument("--saw-the-ai", action="store_true")

    labels = command(
        "import-labels",
        lambda chosen: _import_labels(chosen, desk_of()),
        "Take many labels from CSV; a report's text is read, English or Japanese.",
    )
    labels.add_argument("file", type=Path, help=f"columns {', '.join(LABEL_COLUMNS)}; class or report_text")

    command("sample", lambda chosen: _sample(chosen, desk_of()), "Draw unflagged studies of the last week to be read.")

    report = command("report", lambda chosen: _report(chosen, desk_of()), "Judge the site and keep the report.")
    report.add_argument("--as-of", type=_instant, help="as known then (default: now)")
    report.add_argument("--since", type=_instant, help="studies since (default: since the local acceptance)")
    report.add_argument("--out", type=Path, help="folder to write the page, JSON, CSV and summary to as well")
    report.add_argument("--dry-run", action="store_true", help="judge and write, keep nothing")


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO date or instant") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _freeze(chosen: argparse.Namespace, desk: quality.Desk, weights: Path) -> int:
    path = weights / "baseline.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        raise Misconfigured(f"{path.name}: {type(why).__name__}; weights without a frozen external validation") from why
    done = quality.freeze_external(desk, stored, chosen.by)
    sys.stdout.write("external validation frozen\n" if done else "the same was frozen before\n")
    return 0


def _accept(chosen: argparse.Namespace, desk: quality.Desk) -> int:
    done = quality.accept(desk, chosen.start, chosen.until, chosen.by)
    sys.stdout.write("local acceptance frozen\n" if done else "the same was frozen before\n")
    return 0


def _label(chosen: argparse.Namespace, desk: quality.Desk) -> int:
    quality.take_label(
        desk, chosen.cls, chosen.source, chosen.by, study_instance_uid=chosen.study, accession_number=chosen.accession,
        valid_from=chosen.at, saw_the_ai=chosen.saw_the_ai,
    )  # fmt: skip
    sys.stdout.write("kept\n")
    return 0


def _import_labels(chosen: argparse.Namespace, desk: quality.Desk) -> int:
    """Every row is tried; what cannot be taken is named by its line, and the status is 1."""
    kept = undetermined = 0
    refused: list[str] = []
    for line, row in _rows(chosen.file):
        try:
            cls, certainty = row["class"].strip(), "affirmed"
            if not cls:
                cls, certainty = _read(row["report_text"])
            if not cls:
                undetermined += 1
                continue
            quality.take_label(
                desk, cls, row["source"].strip() or "report-text", row["given_by"].strip() or chosen.file.name,
                study_instance_uid=row["study_instance_uid"].strip(), accession_number=row["accession_number"].strip(),
                valid_from=_instant(row["valid_from"]) if row["valid_from"].strip() else None,
                saw_the_ai=row["saw_the_ai"].strip().lower() in {"1", "true", "yes"}, certainty=certainty,
            )  # fmt: skip
            kept += 1
        except (Rejected, argparse.ArgumentTypeError) as why:
            refused.append(f"line {line}: {why}")
    sys.stdout.write(f"{kept} labels kept, {undetermined} reports that say no class, {len(refused)} refused\n")
    sys.stdout.writelines(f"{words}\n" for words in refused)
    return 1 if refused else 0


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [c for c in LABEL_COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise Misconfigured(f"{path.name}: no column {', '.join(missing)}")
            for row in reader:
                yield reader.line_num, {c: row.get(c) or "" for c in LABEL_COLUMNS}
    except (OSError, UnicodeDecodeError) as why:
        raise Misconfigured(f"{path.name}: {type(why).__name__}") from why


def _read(text: str) -> tuple[str, str]:
    """Class and certainty of a report's text; no class where it says none, or only what is past."""
    found = read_report(text)
    if found.outcome.value == "undetermined" or found.certainty is Certainty.HISTORICAL:
        return "", ""
    cls = "other" if found.outcome.chest_class is None else str(found.outcome.chest_class)
    return cls, "possible" if found.certainty is Certainty.POSSIBLE else "affirmed"


def _sample(chosen: argparse.Namespace, desk: quality.Desk) -> int:
    if not desk.secret:
        raise Misconfigured("TRIAGE_AUDIT_SECRET is not set: the sample could be foreseen")
    sys.stdout.write(f"{quality.draw_sample(desk, datetime.now(UTC))} studies drawn\n")
    return 0


def _report(chosen: argparse.Namespace, desk: quality.Desk) -> int:
    at = chosen.as_of or datetime.now(UTC)
    if chosen.dry_run:
        found = quality.judged(desk, at, chosen.since)
        words = "not kept"
    else:
        report_id, is_new, found = quality.report(desk, at, chosen.since)
        words = f"report {report_id}" + ("" if is_new else ", the same as before")
    sys.stdout.write(f"{words}\nA external validation: {found.external}\nB change here: {found.change}\n")
    sys.stdout.write(f"cause: {found.cause}\n{found.sentence}\n")
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("report.html", page_of(found.body)),
            ("report.json", to_json(found.body)),
            ("report.csv", exports.registry_csv(found.body)),
            ("summary.md", exports.performance_summary(found.body)),
        ):
            (chosen.out / name).write_text(text, encoding="utf-8", newline="")
        sys.stdout.write(f"written to {chosen.out}\n")
    return 1 if found.is_alarm else 0
