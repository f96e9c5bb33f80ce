"""A page as a list of blocks, written once and rendered twice: as one self-contained HTML file and as markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .88rem; display: block; overflow-x: auto; }
th, td { border: 1px solid #ddd; padding: .25rem .55rem; text-align: left; vertical-align: top; }
th { background: #f4f4f4; } td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
.warn { border-left: 4px solid #b3541e; background: #fdf4ee; padding: .5rem .9rem; }
figure { margin: .8rem 0; } figcaption { color: #555; font-size: .88rem; } code { background: #f4f4f4; }
svg { margin-right: .8rem; }
"""


@dataclass(frozen=True)
class Heading:
    """A section begins."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Words; a warning stands out."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Rows:
    """A table."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Drawings:
    """SVG drawings side by side; markdown only names them."""

    svgs: Sequence[str]
    caption: str


@dataclass(frozen=True)
class Commands:
    """Command lines."""

    lines: Sequence[str]


Block = Heading | Paragraph | Bullets | Rows | Drawings | Commands


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The whole page: no script, no link, nothing fetched."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def to_markdown(title: str, blocks: Sequence[Block], page: str) -> str:
    """The same in markdown; *page* names the HTML file that holds the drawings."""
    return "\n\n".join([f"# {title}", *(_markdown(block, page) for block in blocks)]) + "\n"


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Paragraph(text, is_warning):
            return f'<p class="warn">{escape(text)}</p>' if is_warning else f"<p>{escape(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{escape(i)}</li>" for i in items) + "</ul>"
        case Rows(head, rows):
            top = "".join(f"<th>{escape(h)}</th>" for h in head)
            lines = "".join(
                "<tr>"
                + "".join(f'<td class="n">{escape(c)}</td>' if c[:1].isdigit() else f"<td>{escape(c)}</td>" for c in r)
                + "</tr>\n"
                for r in rows
            )
            return f"<table><thead><tr>{top}</tr></thead><tbody>\n{lines}</tbody></table>"
        case Drawings(svgs, caption):
            return f"<figure>{''.join(svgs)}<figcaption>{escape(caption)}</figcaption></figure>"
        case Commands(lines):
            return "<pre><code>" + escape("\n".join(lines)) + "</code></pre>"


def _markdown(block: Block, page: str) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Paragraph(text, is_warning):
            return f"**{text}**" if is_warning else text
        case Bullets(items):
            return "\n".join(f"- {i}" for i in items)
        case Rows(head, rows):
            lines = [_row(head), _row(["---"] * len(head)), *(_row(r) for r in rows)]
            return "\n".join(lines)
        case Drawings(_, caption):
            return f"*Drawn in [{page}]({page}): {caption}*"
        case Commands(lines):
            return "```\n" + "\n".join(lines) + "\n```"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
