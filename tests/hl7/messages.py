"""Invented messages, whole by default; a test names only what matters."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent.parent / "data" / "hl7"


def sample(name: str) -> bytes:
    """One file of tests/data/hl7."""
    return (DATA / name).read_bytes()


def make_message(
    *,
    msh: dict[int, str] | None = None,
    pid: dict[int, str] | None = None,
    orc: dict[int, str] | None = None,
    obr: dict[int, str] | None = None,
    more: tuple[str, ...] = (),
    codec: str = "utf-8",
) -> bytes:
    """An ORM^O01 with the fields named, by number, put in place of the usual ones."""
    usual: list[tuple[str, dict[int, str]]] = [
        ("MSH", {2: "^~\\&", 3: "RIS", 4: "DEMO", 5: "TRIAGE", 6: "SITE", 9: "ORM^O01", 10: "M-1", 11: "P", 12: "2.5"}),
        ("PID", {3: "4711^^^SITE^MR", 5: "Doe^Jane"}),
        ("ORC", {1: "NW", 2: "P-1", 3: "F-1", 5: "SC"}),
        ("OBR", {4: "36643-5^XR Chest 2 Views^LN", 18: "A-1"}),
    ]
    lines = []
    for (name, fields), changes in zip(usual, (msh, pid, orc, obr), strict=True):
        values = fields | (changes or {})
        first = 2 if name == "MSH" else 1
        lines.append("|".join([name, *(values.get(number, "") for number in range(first, max(values) + 1))]))
    return "".join(line + "\r" for line in [*lines, *more]).encode(codec)
