"""Small drawings as inline SVG: reliability diagrams, ROC curves, forests of intervals; no script, no link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from triage.audit.performance import wilson

SIDE = 200
MARGIN = 46
COLOURS = ("#1b6ca8", "#b3541e", "#7a1f5c")
"""Blue, orange, purple: told apart by colour-blind eyes and, by their dashes, without colour."""
DASHES = ("", "6 3", "2 3")
INK, FAINT = "#222", "#bbb"


def reliability(points: Sequence[Sequence[float]], title: str) -> str:
    """
    Said against seen.

    Args:
        points: of each bin (cases, mean probability, cases that were truly of the class).
    """
    drawn = [_frame(title, "probability said", "share seen"), _line(0, 0, 1, 1, FAINT, "4 3")]
    for n, said, hits in points:
        low, high = wilson(int(hits), int(n))
        drawn.append(_line(said, low, said, high, COLOURS[0]))
        drawn.append(
            f'<circle cx="{_x(said)}" cy="{_y(hits / n)}" r="3.5" fill="{COLOURS[0]}">'
            f"<title>{int(n)} images, said {said:.2f}, seen {hits / n:.2f}</title></circle>"
        )
    return _svg(drawn, title)


def roc(curves: Mapping[str, Sequence[Sequence[float]]], title: str) -> str:
    """ROC curves, one a class: points (false positive rate, sensitivity)."""
    drawn = [_frame(title, "1 - specificity", "sensitivity"), _line(0, 0, 1, 1, FAINT, "4 3")]
    for i, (name, points) in enumerate(curves.items()):
        path = " ".join(f"{_x(a)},{_y(h)}" for a, h in points)
        dash = f' stroke-dasharray="{DASHES[i % 3]}"' if DASHES[i % 3] else ""
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{COLOURS[i % 3]}" stroke-width="1.8"{dash}>'
            f"<title>{escape(name)}</title></polyline>"
        )
        y = _y(0.30 - 0.11 * i)
        drawn.append(
            f'<line x1="{_x(0.48)}" y1="{y - 4}" x2="{_x(0.60)}" y2="{y - 4}" stroke="{COLOURS[i % 3]}" '
            f'stroke-width="1.8"{dash}/><text x="{_x(0.63)}" y="{y}">{escape(name)}</text>'
        )
    return _svg(drawn, title)


def forest(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """
    Figures with their intervals, one a line.

    Args:
        rows: `label`, `value`, `low`, `high`, `n`; a value of None is drawn as "insufficient".
    """
    left, width, step = 260, 300, 20
    height = 40 + step * len(rows)
    drawn = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = left + width * tick
        drawn.append(f'<line x1="{x}" y1="14" x2="{x}" y2="{height - 22}" stroke="{FAINT}" stroke-width="0.6"/>')
        drawn.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle">{tick:g}</text>')
    for i, row in enumerate(rows):
        y = 24 + step * i
        drawn.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(row["label"])}</text>')
        if row["value"] is None:
            drawn.append(f'<text x="{left + 6}" y="{y + 4}" fill="#777">insufficient (n={row["n"]})</text>')
            continue
        said = f"{row['value']:.3f}"
        if row["low"] is not None:
            said += f" ({row['low']:.3f}–{row['high']:.3f})"
            x1, x2 = left + width * row["low"], left + width * row["high"]
            drawn.append(
                f'<line x1="{x1:.1f}" y1="{y}" x2="{x2:.1f}" y2="{y}" stroke="{COLOURS[0]}" stroke-width="2"/>'
            )
        x = left + width * row["value"]
        drawn.append(f'<rect x="{x - 3.5:.1f}" y="{y - 3.5}" width="7" height="7" fill="{COLOURS[0]}"/>')
        drawn.append(f'<text x="{left + width + 10}" y="{y + 4}">{said}, n={row["n"]}</text>')
    size = f'viewBox="0 0 {left + width + 210} {height}" width="{left + width + 210}" height="{height}"'
    return tagged(size, drawn, title)


def _frame(title: str, across: str, up: str) -> str:
    middle = MARGIN + SIDE / 2
    ticks = "".join(
        f'<text x="{_x(t)}" y="{MARGIN + SIDE + 13}" text-anchor="middle">{t:g}</text>'
        f'<text x="{MARGIN - 5}" y="{_y(t) + 4}" text-anchor="end">{t:g}</text>'
        for t in (0, 0.5, 1)
    )
    return (
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIDE}" height="{SIDE}" fill="none" stroke="{FAINT}"/>{ticks}'
        f'<text x="{middle}" y="20" text-anchor="middle" font-weight="bold">{escape(title)}</text>'
        f'<text x="{middle}" y="{MARGIN + SIDE + 27}" text-anchor="middle">{across}</text>'
        f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">{up}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{_x(x1)}" y1="{_y(y1)}" x2="{_x(x2)}" y2="{_y(y2)}" stroke="{colour}" stroke-width="1.4"{dashed}/>'
    )


def _x(share: float) -> float:
    return round(MARGIN + SIDE * share, 1)


def _y(share: float) -> float:
    return round(MARGIN + SIDE * (1 - share), 1)


def _svg(drawn: Sequence[str], title: str) -> str:
    size = SIDE + MARGIN + 36
    return tagged(f'viewBox="0 0 {size} {size}" width="{size}" height="{size}"', drawn, title)


def tagged(size: str, drawn: Sequence[str], title: str) -> str:
    """The drawing as one SVG element of *size* (its attributes), with *title* for who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}">{"".join(drawn)}</svg>'
    )
