"""The README's state diagrams, generated from the tables: `python -m triage.state_diagram README.md` writes them in."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from triage.domain.worklist import AI_TRANSITIONS, READING_TRANSITIONS

BLOCK = re.compile(r"<!-- states:begin -->.*?<!-- states:end -->", re.DOTALL)


def mermaid(start: StrEnum, transitions: Mapping[StrEnum, frozenset[StrEnum]]) -> str:
    """One Mermaid state diagram, its lines in the tables' order."""

    def name(state: StrEnum) -> str:
        return state.replace("-", "_")

    lines = [f"    [*] --> {name(start)}"]
    for old, news in transitions.items():
        lines += [f"    {name(old)} --> {name(new)}" for new in transitions if new in news]
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```"


def block() -> str:
    """What stands between the README's marks."""
    ai: Mapping[StrEnum, frozenset[StrEnum]] = {k: frozenset(v) for k, v in AI_TRANSITIONS.items()}
    reading: Mapping[StrEnum, frozenset[StrEnum]] = {k: frozenset(v) for k, v in READING_TRANSITIONS.items()}
    ai_diagram = mermaid(next(iter(AI_TRANSITIONS)), ai)
    reading_diagram = mermaid(next(iter(READING_TRANSITIONS)), reading)
    parts = ("The AI's side of an entry:", ai_diagram, "The readers' side:", reading_diagram)
    return "<!-- states:begin -->\n" + "\n\n".join(parts) + "\n<!-- states:end -->"


def main() -> None:
    """Write the diagrams into the file named on the command line."""
    path = Path(sys.argv[1])
    path.write_text(BLOCK.sub(lambda _: block(), path.read_text()))


if __name__ == "__main__":
    main()
