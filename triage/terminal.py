"""Tables for the terminal: the reading list with its reasons, and the state of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from models.card import CheckedNetwork, use_in_words
from triage.domain.eligibility import REASONS
from triage.domain.priority import Lane
from triage.domain.worklist import AiState, spoken, why
from triage.ports import Line
from triage.settings import Settings

WIDE = 110
"""Columns from which the table has room for lane, deadline and probability; the reason names them anyway."""
LANES = {Lane.STAT: "0 STAT", Lane.EXPEDITED: "1 expedited", Lane.ORDINARY: "2 ordinary"}
SHOWN = {
    AiState.FLAGGED: "[bold red]▲ flagged[/]",
    AiState.NOT_FLAGGED: "no effect",
    AiState.NOT_ELIGIBLE: "[yellow]not assessed[/]",
    AiState.FAILED: "[yellow]failed[/]",
    AiState.TIMED_OUT: "[yellow]timed out[/]",
}


def person(name: str) -> str:
    """A DICOM person name for people: the alphabetic group, and the ideographic one where there is one."""
    groups = [group.replace("^", " ").strip() for group in name.split("=")]
    return " ".join(filter(None, groups[:2]))


def print_worklist(lines: Sequence[Line], at: datetime, *, title: str, console: Console | None = None) -> None:
    """The reading list as a table, one line a study, with the reason for its place."""
    out = console or Console()
    is_wide = out.width >= WIDE
    table = Table(title=title, title_justify="left", expand=True, show_edge=False, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("Patient", no_wrap=True, max_width=28)
    if is_wide:
        table.add_column("Lane", no_wrap=True)
        table.add_column("Read by", justify="right", no_wrap=True)
    table.add_column("AI", no_wrap=True)
    if is_wide:
        table.add_column("p(COVID)", justify="right", no_wrap=True)
    table.add_column("Why it stands here", overflow="fold", ratio=1)
    for number, line in enumerate(lines, 1):
        entry = line.entry
        left = "" if entry.read_by is None else spoken(abs(entry.read_by - at))
        late = entry.read_by is not None and entry.read_by <= at
        covid = line.probabilities.get("covid")
        lane = "" if entry.lane is None else LANES[entry.lane]
        place = [lane, f"[red]-{left}[/]" if late else left] if is_wide else []
        chance = ["" if covid is None else f"{covid:.2f}"] if is_wide else []
        table.add_row(
            str(number),
            person(line.patient_name) or f"entry {entry.entry_id}",
            *place,
            SHOWN.get(entry.ai_state, str(entry.ai_state)),
            *chance,
            why(entry, at),
        )
    out.print(table)
    out.print("[dim]AI results are preliminary and not for diagnosis; no effect means no effect, never negative.[/]")


def print_networks(networks: Sequence[CheckedNetwork], console: Console | None = None) -> None:
    """Which networks are in use, whether their weights are the cards', and what their licences permit."""
    out = console or Console()
    permitted = {True: "yes", False: "NO", None: "unknown"}
    rows = [
        {
            "network": one.network,
            "name": one.card.name if one.card else "",
            "version": one.card.version if one.card else "",
            "weights": one.identity.weights_sha256[:12] if one.identity else "",
            "verified": "no" if one.problem else "yes",
            "commercial_use": permitted[one.card.commercial_use] if one.card else "unknown",
        }
        for one in networks
    ]
    _table(out, "Models", rows, ("network", "name", "version", "weights", "verified", "commercial_use"))
    known = [one.card for one in networks if one.card]
    problems = [f"{one.network}: {one.problem}" for one in networks if one.problem]
    licences = [f"{card.name} {card.version}: {card.licence}" for card in known]
    limit = [f"Models {use_in_words(known)}; results are preliminary."] if known else []
    for line in [*problems, *licences, *limit]:
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def print_status(overview: Mapping[str, Any], settings: Settings, console: Console | None = None) -> None:
    """Counts by state, and everything that waits for a person; codes and numbers only."""
    out = console or Console()
    archive = "DICOMweb" if settings.archive_url else "folder"
    out.print(
        f"site [bold]{settings.site}[/], rollout [bold]{settings.rollout}[/], "
        f"model {'on' if settings.model_enabled else 'off'}, archive: {archive}, "
        f"FHIR server: {'yes' if settings.fhir_url else 'own endpoint only'}"
    )
    _table(out, "Worklist", overview["entries"], ("ai_state", "reading_state", "entries"))
    reasons = [{**row, "meaning": REASONS.get(row["ai_reason"], "")} for row in overview["not_assessed"]]
    _table(out, "Not assessed", reasons, ("entry_id", "ai_state", "ai_reason", "meaning"))
    _table(out, "Waiting", overview["waiting"], ("entry_id", "ai_state", "ai_reason", "created_at"))
    _table(out, "Orders without images", overview["orders_without_images"], ("orders", "oldest_at"))
    _table(out, "Studies without an order", overview["unmatched"], ("entry_id", "match_outcome", "first_seen_at"))
    _table(out, "Messages", overview["messages"], ("protocol", "outcome", "messages"))
    _table(
        out, "Messages for a person (triage replay message ID)", overview["stuck_messages"],
        ("id", "kind", "peer", "received_at", "outcome", "reason", "repeats", "attempts"),
    )  # fmt: skip
    _table(out, "Deliveries", overview["deliveries"], ("destination", "state", "deliveries"))
    _table(
        out, "Deliveries not done (triage replay delivery ID)", overview["stuck_deliveries"],
        ("id", "entry_id", "destination", "state", "attempts", "reason"),
    )  # fmt: skip
    _table(out, "Files that are no DICOM", overview["unreadable_files"], ("archive", "reason", "files"))
    _table(out, "Peers swept", overview["peers"], ("peer", "swept_at", "failure"))


def _table(out: Console, title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", show_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        cells = [row[column] for column in columns]
        table.add_row(*(f"{cell:%Y-%m-%d %H:%M:%S}" if isinstance(cell, datetime) else str(cell) for cell in cells))
    out.print(table)
