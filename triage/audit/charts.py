"""The report's charts as inline SVG: intervals side by side, courses over days, bars; no script, no link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite, log10

from triage.audit.drawing import COLOURS, DASHES, FAINT, tagged

WIDE, HIGH = 640, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 26, 34
MOST_POINTS = 240
Figure = tuple[float | None, float | None, float | None]
"""Value, lower and upper limit; None where it cannot be given."""


@dataclass(frozen=True)
class Series:
    """Points (x, y) of one line; a y of None is a gap. With `band`, (low, high) of each point are shaded."""

    name: str
    points: Sequence[tuple[float, float | None]]
    band: Sequence[tuple[float | None, float | None]] = ()
    colour: int = 0
    is_step: bool = False


@dataclass(frozen=True)
class Interval:
    """One line of a forest: two figures with limits, ours and theirs; None where one cannot be given."""

    label: str
    ours: Figure
    theirs: Figure | None
    note: str = ""
    least: float | None = None
    """Below this is beyond the declared margin: drawn as a tick."""


def course(
    series: Sequence[Series],
    title: str,
    *,
    across: str,
    up: str,
    marks: Sequence[tuple[float, str]] = (),
    limits: Sequence[tuple[float, str]] = (),
    is_log: bool = False,
    span: tuple[float, float] | None = None,
) -> str:
    """
    Lines over an axis.

    Args:
        marks: (x, words) of vertical lines.
        limits: (y, words) of horizontal lines.
        span: of y; by default what the points and limits need.
    """
    thin = [_thinned(s) for s in series]
    xs = [x for s in thin for x, _ in s.points]
    if not xs:
        return tagged(
            f'viewBox="0 0 {WIDE} 40" width="{WIDE}" height="40"', [_text(8, 24, "nothing to draw yet")], title
        )
    scale = _Scale((min(xs), max(xs)), span or _span(thin, limits, is_log), is_log)
    drawn = [_frame(scale, title, across, up)]
    for x, words in marks:
        drawn.append(f'<line x1="{scale.x(x)}" y1="{TOP}" x2="{scale.x(x)}" y2="{HIGH - BOTTOM}" stroke="{COLOURS[1]}" '
                     f'stroke-dasharray="2 3"/>' + _text(scale.x(x) + 3, TOP + 10, words))  # fmt: skip
    for y, words in limits:
        drawn.append(f'<line x1="{LEFT}" y1="{scale.y(y)}" x2="{WIDE - RIGHT}" y2="{scale.y(y)}" stroke="{COLOURS[1]}" '
                     f'stroke-dasharray="6 3"/>' + _text(WIDE - RIGHT - 2, scale.y(y) - 4, words, "end"))  # fmt: skip
    for i, one in enumerate(thin):
        drawn += _line(one, scale, DASHES[i % 3])
    if len(thin) > 1:
        drawn += [_text(LEFT + 8 + 150 * i, HIGH - 4, f"{_mark(i)} {s.name}", colour=COLOURS[s.colour])
                  for i, s in enumerate(thin)]  # fmt: skip
    return tagged(f'viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}"', drawn, title)


def forest(rows: Sequence[Interval], title: str, *, ours: str, theirs: str, low: float = 0.0, high: float = 1.0) -> str:
    """Intervals below each other, ours filled, theirs hollow; the tick is what would be beyond the margin."""
    left, width, step = 190, 300, 30 if any(r.theirs for r in rows) else 20
    height = 44 + step * len(rows)

    def x(value: float) -> float:
        return round(left + width * (min(max(value, low), high) - low) / (high - low), 1)

    drawn = []
    for i in range(5):
        tick = low + (high - low) * i / 4
        drawn.append(
            f'<line x1="{x(tick)}" y1="18" x2="{x(tick)}" y2="{height - 22}" stroke="{FAINT}" stroke-width="0.6"/>'
        )
        drawn.append(_text(x(tick), height - 8, f"{tick:.2g}", "middle"))
    drawn.append(_text(left, 12, f"■ {ours}   □ {theirs}" if theirs else f"■ {ours}"))
    for i, row in enumerate(rows):
        y = 30 + step * i
        drawn.append(_text(left - 8, y + 4, row.label, "end"))
        if row.ours[0] is None:
            drawn.append(_text(left + 6, y + 4, row.note or "insufficient", colour="#777"))
        else:
            drawn += _arm(x, row.ours, y, COLOURS[0], is_filled=True)
            drawn.append(_text(left + width + 10, y + 4, row.note))
        if row.theirs is not None and row.theirs[0] is not None:
            drawn += _arm(x, row.theirs, y + 11, "#555", is_filled=False)
        if row.least is not None:
            at = x(row.least)
            drawn.append(
                f'<line x1="{at}" y1="{y - 8}" x2="{at}" y2="{y + 16}" stroke="{COLOURS[1]}" stroke-width="1.6"/>'
            )
    size = left + width + 200
    return tagged(f'viewBox="0 0 {size} {height}" width="{size}" height="{height}"', drawn, title)


def bars(rows: Sequence[tuple[str, float | None, float | None, float | None]], title: str, *, most: float) -> str:
    """Named values with limits as horizontal bars from 0."""
    left, width, step = 230, 280, 22
    height = 26 + step * len(rows)
    drawn = []
    for i, (label, value, low, high) in enumerate(rows):
        y = 18 + step * i
        drawn.append(_text(left - 8, y + 4, label, "end"))
        if value is None:
            drawn.append(_text(left + 4, y + 4, "not known", colour="#777"))
            continue
        long = width * min(max(value, 0.0), most) / most
        drawn.append(f'<rect x="{left}" y="{y - 6}" width="{long:.1f}" height="12" fill="{COLOURS[0]}"/>')
        if low is not None and high is not None:
            x1, x2 = (left + width * min(max(v, 0.0), most) / most for v in (low, high))
            drawn.append(f'<line x1="{x1:.1f}" y1="{y}" x2="{x2:.1f}" y2="{y}" stroke="#222" stroke-width="1.6"/>')
        words = f"{value:.3g}" + (f" ({low:.3g} to {high:.3g})" if low is not None and high is not None else "")
        drawn.append(_text(left + width + 8, y + 4, words))
    size = left + width + 170
    return tagged(f'viewBox="0 0 {size} {height}" width="{size}" height="{height}"', drawn, title)


@dataclass(frozen=True)
class _Scale:
    across: tuple[float, float]
    up: tuple[float, float]
    is_log: bool

    def x(self, value: float) -> float:
        low, high = self.across
        return round(LEFT + (WIDE - LEFT - RIGHT) * ((value - low) / (high - low) if high > low else 0.5), 1)

    def y(self, value: float) -> float:
        low, high, at = *self.up, value
        if self.is_log:
            low, high, at = log10(low), log10(high), log10(max(value, self.up[0]))
        share = (at - low) / (high - low) if high > low else 0.5
        return round(HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * min(max(share, 0.0), 1.0), 1)


def _span(series: Sequence[Series], limits: Sequence[tuple[float, str]], is_log: bool) -> tuple[float, float]:
    values = [y for s in series for _, y in s.points if y is not None and isfinite(y)] + [y for y, _ in limits]
    values += [v for s in series for pair in s.band for v in pair if v is not None and isfinite(v)]
    if is_log:
        return 0.1, max([1.0, *values]) * 2
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.08 * (high - low or 1.0)
    return low - room, high + room


def _thinned(series: Series) -> Series:
    if len(series.points) <= MOST_POINTS:
        return series
    every = len(series.points) / MOST_POINTS
    kept = sorted({*(int(i * every) for i in range(MOST_POINTS)), len(series.points) - 1})
    band = [series.band[i] for i in kept] if series.band else ()
    return Series(series.name, [series.points[i] for i in kept], band, series.colour, series.is_step)


def _line(series: Series, scale: _Scale, dash: str) -> list[str]:
    colour, drawn = COLOURS[series.colour % 3], []
    shaded = [(x, lo, hi) for (x, _), (lo, hi) in zip(series.points, series.band, strict=False)
              if lo is not None and hi is not None]  # fmt: skip
    if shaded:
        edge = [f"{scale.x(x)},{scale.y(hi)}" for x, _, hi in shaded]
        edge += [f"{scale.x(x)},{scale.y(lo)}" for x, lo, _ in reversed(shaded)]
        drawn.append(f'<polygon points="{" ".join(edge)}" fill="{colour}" opacity="0.15"/>')
    path, before = [], None
    for x, y in series.points:
        if y is None or not isfinite(y):
            continue
        if series.is_step and before is not None:
            path.append(f"{scale.x(x)},{before}")
        before = scale.y(y)
        path.append(f"{scale.x(x)},{before}")
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    drawn.append(f'<polyline points="{" ".join(path)}" fill="none" stroke="{colour}" stroke-width="1.7"{dashed}>'
                 f"<title>{escape(series.name)}</title></polyline>")  # fmt: skip
    return drawn


def _frame(scale: _Scale, title: str, across: str, up: str) -> str:
    bottom, middle = HIGH - BOTTOM, (TOP + HIGH - BOTTOM) / 2
    ticks = [_text(scale.x(v), bottom + 13, f"{v:.4g}", "middle") for v in _ticks(*scale.across)]
    ups = (
        [10.0**k for k in range(-1, 9) if scale.up[0] <= 10.0**k <= scale.up[1]] if scale.is_log else _ticks(*scale.up)
    )
    ticks += [_text(LEFT - 5, scale.y(v) + 4, f"{v:.3g}", "end") for v in ups]
    wide, high = WIDE - LEFT - RIGHT, bottom - TOP
    return (
        f'<rect x="{LEFT}" y="{TOP}" width="{wide}" height="{high}" fill="none" stroke="{FAINT}"/>'
        f'<text x="{LEFT}" y="14" font-weight="bold">{escape(title)}</text>{"".join(ticks)}'
        + _text(WIDE - RIGHT, HIGH - 6, across, "end")
        + f'<text transform="translate(12,{middle}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
    )


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers inside the span."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    size = 10.0 ** int(log10(rough) // 1)
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= rough)
    first = -(-low // step)
    return [round((first + i) * step, 10) for i in range(12) if (first + i) * step <= high + 1e-12]


def _arm(x: Callable[[float], float], figure: Figure, y: float, colour: str, *, is_filled: bool) -> list[str]:
    value, low, high = figure
    drawn = []
    if low is not None and high is not None:
        drawn.append(f'<line x1="{x(low)}" y1="{y}" x2="{x(high)}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
    fill, at = colour if is_filled else "#fff", x(value or 0.0)
    drawn.append(f'<rect x="{at - 3.5}" y="{y - 3.5}" width="7" height="7" fill="{fill}" stroke="{colour}"/>')
    return drawn


def _text(x: float, y: float, words: str, anchor: str = "start", colour: str = "") -> str:
    fill = f' fill="{colour}"' if colour else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{fill}>{escape(words)}</text>'


def _mark(i: int) -> str:
    return ("—", "– –", "···")[i % 3]
