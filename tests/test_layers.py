"""Reads imports and keeps the arrows of the codebase true: the table below is the drawing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("triage", "integrations", "models")
USE_CASES = ("triage.intake", "triage.assessment", "triage.reporting", "triage.quality")

# who, and which of our own modules they may know: a name allows everything below it, their own part goes unsaid
ARROWS: dict[str, tuple[str, ...]] = {
    "triage.domain": (),
    "triage.ports": ("triage.domain",),
    "triage.audit": ("triage.domain",),
    "models": ("triage.domain",),
    "models.training": ("models", "triage.domain", "triage.audit"),
    "integrations": ("triage.domain", "triage.ports"),
    "triage.postgres": ("triage.domain", "triage.ports"),
    "triage.web": (
        "triage.domain",
        "triage.ports",
        "triage.postgres",
        "triage.audit.exports",
        *USE_CASES,
        "integrations.fhir",
    ),
    "triage.reading_room": ("triage.domain", "triage.web.signin", "triage.web.picture", "models.pictures"),
    **{use_case: ("triage.domain", "triage.ports") for use_case in USE_CASES},
    "triage.quality": ("triage.domain", "triage.ports", "triage.audit"),
}

# what only these may know
RESERVED: dict[str, tuple[str, ...]] = {
    "triage.wiring": ("triage.tasks", "triage.__main__", "triage.demo"),
    "models.training": ("models.training", "models.__main__"),
}

# what may be known of the outside world
OUTSIDE: dict[str, frozenset[str]] = {
    "triage.domain": frozenset({"numpy"}),
    "triage.ports": frozenset(),
    "triage.audit": frozenset({"numpy", "scipy"}),
}


def is_in(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module *path* names in an import, wherever it stands, with its relative level."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [f"{base}.{alias.name}" for alias in node.names]
            # `from triage.postgres import orders` names a module, `from triage.ports import Lease` a thing inside one
            yield from ((name if name in MODULES else base, node.level) for name in names)


def part_of(module: str) -> str | None:
    parts = [part for part in ARROWS if is_in(module, part)]
    return max(parts, key=len, default=None)


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module):
    part = part_of(module)
    for name, level in imports(MODULES[module]):
        assert level == 0, f"{module}: no relative imports"
        for reserved, known_by in RESERVED.items():
            if is_in(name, reserved) and not is_in(module, reserved):
                assert any(is_in(module, who) for who in known_by), f"{module} may not know {name}"
        if part is None:
            continue
        if name.split(".")[0] in PACKAGES:
            assert any(is_in(name, allowed) for allowed in (part, *ARROWS[part])), f"{module} may not know {name}"
        elif part in OUTSIDE:
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names | OUTSIDE[part], f"{module} may not know {name}"


@pytest.mark.parametrize("module", [m for m, path in MODULES.items() if path.name == "__init__.py"])
def test_an_init_holds_one_docstring_line_and_nothing_else(module):
    (only,) = ast.parse(MODULES[module].read_text()).body
    assert isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant)
    assert "\n" not in only.value.value


@pytest.mark.parametrize("module", MODULES)
def test_names_are_those_of_the_style(module):
    assert module.rsplit(".", 1)[-1] not in {"models", "utils", "helpers", "common"} or module == "models"


def test_the_domain_knows_no_clock_no_settings_and_no_log():
    for module in (m for m in MODULES if is_in(m, "triage.domain")):
        source = MODULES[module].read_text()
        assert not {name for name, _ in imports(MODULES[module])} & {"logging", "os", "time", "socket", "random"}, (
            module
        )
        assert ".now(" not in source and "utcnow" not in source, module


def test_every_row_of_the_drawing_stands_for_something():
    for part in ARROWS:
        assert any(is_in(module, part) for module in MODULES), part


def test_the_reader_of_imports_sees_every_kind(tmp_path):
    (tmp_path / "x.py").write_text(
        "import triage.wiring as w\nfrom triage.postgres import orders\nfrom . import y\n"
        "def f():\n    from models.training import loop\n"
    )
    seen = set(imports(tmp_path / "x.py"))
    assert {("triage.wiring", 0), ("triage.postgres.orders", 0), ("", 1)} <= seen
    assert any(is_in(name, "models.training") for name, _ in seen)
