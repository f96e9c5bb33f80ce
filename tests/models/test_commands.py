"""`python -m models`: every command is listed, named in the README, and loaded only when asked for."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from models.__main__ import COMMANDS, _parser

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PRESENT = [name for name, (module, _) in COMMANDS.items() if find_spec(module) is not None]


def test_listing_the_commands_loads_no_network() -> None:
    code = "import sys; from models.__main__ import _parser; _parser([]).format_help(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", PRESENT)
def test_each_command_is_added_by_its_module(name: str) -> None:
    commands = next(a.choices for a in _parser([name])._actions if a.choices)
    assert commands is not None and set(PRESENT) == set(commands)
    assert "--" in commands[name].format_help()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_stands_in_the_readme(name: str) -> None:
    assert f"`{name}" in README
