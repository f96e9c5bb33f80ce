"""The checked-in ledger of every look at the external images: one line a look, each naming the digest of the last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from models.engine import Engine

LEDGER = Path("docs/models/external-validation-ledger.jsonl")
HEADLINES = ("AUC", "balanced accuracy", "accuracy", "recall", "refused", "COVID", "Brier", "Dice", "no plausible")
FIRST = "0" * 64
"""What the first line names as the line before it."""


def add_look(
    ledger: Path, command: str, engine: Engine, figures: Sequence[Mapping[str, Any]], at: datetime
) -> dict[str, Any]:
    """Write one look down: which weights, when, and the figures seen but those of subgroups."""
    look = {
        "at": at.isoformat(timespec="seconds"),
        "command": command,
        "classifier": asdict(engine.classifier),
        "segmenter": asdict(engine.segmenter),
        "figures": [[f[k] for k in ("what", "on", "value", "low", "high", "n")] for f in figures if _is_headline(f)],
    }
    append(ledger, look)
    return look


def append(ledger: Path, look: Mapping[str, Any]) -> None:
    """Add one line; a ledger whose chain is broken is not continued."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
    check_chain(lines)
    line = json.dumps({"previous": digest_of(lines[-1]) if lines else FIRST, **look}, ensure_ascii=False)
    with ledger.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def check_chain(lines: Sequence[str]) -> None:
    """Every line must name the digest of the one before it; ValueError names the first that does not."""
    before = FIRST
    for number, line in enumerate(lines, start=1):
        if json.loads(line)["previous"] != before:
            raise ValueError(f"the ledger was changed before line {number}: nothing is added to it")
        before = digest_of(line)


def digest_of(line: str) -> str:
    """What the next line calls this one."""
    return hashlib.sha256(line.encode()).hexdigest()


def _is_headline(figure: Mapping[str, Any]) -> bool:
    is_part = any(f", {kind} " in figure["on"] for kind in ("sex", "age", "view"))
    return not is_part and figure["what"].startswith(HEADLINES)
