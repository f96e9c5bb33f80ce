"""The README says what the code does: diagrams, settings and commands are compared with the code's own."""

from __future__ import annotations

import re
from pathlib import Path

from triage.__main__ import _parser
from triage.state_diagram import block

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_state_diagrams_are_those_of_the_tables() -> None:
    assert block() in README, "run: python -m triage.state_diagram README.md"


def test_every_setting_is_listed() -> None:
    named = re.findall(r'read\.\w+\("([A-Z_0-9]+)"', (ROOT / "triage" / "settings.py").read_text())
    assert len(named) > 30
    assert [name for name in named if f"`TRIAGE_{name}`" not in README] == []


def test_every_command_is_named() -> None:
    commands = re.search(r"\{(.*?)\}|COMMAND", _parser().format_usage())
    assert commands
    offered = next(a for a in _parser()._actions if a.choices).choices
    assert offered is not None
    sentence = next(line for line in README.splitlines() if line.startswith("`triage demo |"))
    assert [name for name in offered if name not in sentence] == []


def test_no_lock_file_names_a_host() -> None:
    for lock in [*ROOT.glob("*.lock"), *ROOT.glob("tests/peers/**/package-lock.json")]:
        assert not re.search(r"https?://", lock.read_text()), lock.name
