"""The page of the gate study: tables of counts with their intervals, in words that say what was simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.gate import KNOWN_PERCENTILE, LEAST_LEFT_OUT, MOST_WIDENED, STRANGER_PERCENTILE
from models.training.gate_explanation import BESIDE, EDGE
from models.training.gate_readings import BY_LIMIT
from models.training.gate_scores import THE_GATE
from triage.audit import drawing
from triage.audit.blocks import Block, Bullets, Commands, Heading, Paragraph, Rows, to_markdown

Entry = Mapping[str, Any]
DRAWN = (THE_GATE, "10th neighbour, unit length", "10th neighbour, 64 whitened")
SHORT = ("the gate", "10th neighbour", "whitened")


def page(found: Mapping[str, Any]) -> str:
    """Everything in markdown."""
    blocks: list[Block] = [
        Paragraph(
            f"Classifier {found['classifier']}; lungs {found['lungs']}; run by {found['runtime']}, "
            f"seed {found['seed']}."
        ),
        Commands([found["made_by"]]),
        *_sets(found),
        *_limit(found["limit"], found["left_out"], found["sets"]),
        *_scores(found["scores"]),
        *_lungs(found["lungs_refused"]),
        *_explanation(found["occlusion"], found["outside"]),
    ]
    return to_markdown("What the gates refuse", blocks, "gates.svg")


def drawn(curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """ROC curves of three kinds of score."""
    shown = {short: curves[kind] for kind, short in zip(DRAWN, SHORT, strict=True) if kind in curves}
    return drawing.roc(shown, "Refusing what is no frontal chest")


def _sets(found: Mapping[str, Any]) -> list[Block]:
    return [
        Heading("What passes and what does not"),
        Paragraph(
            "Every set is judged by its pixels alone; the header gate, which comes first in the service, is counted "
            "where the file is DICOM. Assessed: neither gate refuses. Intervals: Wilson, 95 %. The spoilt sets are "
            "made from held-out frontal adults that have two plausible lungs as they came; the photographs of films "
            "are simulated (seen at an angle before a dark room, uneven light, a glare, moiré, a colour cast, blur), "
            "no real ones were at hand. Nor were lateral radiographs of people: the only lateral is one of a dog whose "
            "tags say thorax. The lung network was trained on children. Each run adds the external rows to the ledger."
        ),
        Rows(
            ("set", "should be", "n", "assessed", "refused by pixels", "by lungs", "unfamiliar", "other", "by header"),
            [_set_row(e) for e in [found["sets"][0], *found["sources"], *found["sets"][1:]]],
        ),
    ]


def _set_row(e: Entry) -> tuple[str, ...]:
    pixels = dict(e["pixels"])
    lungs, strange = pixels.pop("lungs-implausible", 0), pixels.pop(BY_LIMIT, 0)
    header = ", ".join(f"{reason} {count}" for reason, count in e["header"].items())
    other = ", ".join(f"{reason} {count}" for reason, count in pixels.items())
    assessed, refused = _share(e["assessed"]), _share(e["refused_by_pixels"])
    return (e["set"], e["should_be"], str(e["n"]), assessed, refused, str(lungs), str(strange), other, header)


def _limit(limit: Mapping[str, Any], left_out: Sequence[Entry], sets: Sequence[Entry]) -> list[Block]:
    needed = [
        (source, str(one["images"]), f"{one['widening']:.2f}") for source, one in sorted(limit["sources"].items())
    ]
    return [
        Heading("The limit of familiarity"),
        Paragraph(
            f"Rule (`models.gate.limit_of`): the {KNOWN_PERCENTILE}th percentile of held-out frontal adults with two "
            "plausible lungs, widened by the factor that the strangest source would have needed if the gate had been "
            f"fitted without it, so that {STRANGER_PERCENTILE:g} % of its frontal adults pass; at most by "
            f"{MOST_WIDENED}, lest nothing be refused any more. A source with fewer than {LEAST_LEFT_OUT} images "
            "stays in. The classifier itself has seen every source: an unseen hospital may be stranger still."
            " This cap and the lungs' limit at the image's edge were settled on development images, yet with the "
            "tables of 0.1.0 in sight, their external rows too."
        ),
        Bullets(
            [
                f"limit on the card: {limit['card']:.3f}",
                f"limit by the rule: {limit['rule']:.3f} (percentile {limit['held_out_percentile']:.3f} "
                f"of {limit['held_out']} held-out images)",
            ]
        ),
        Rows(("source left out", "images", "factor needed"), needed),
        Paragraph("Refused as unfamiliar among pictures with two plausible lungs:"),
        Rows(
            ("set", "should be", "at the card's limit", "at the rule's limit"),
            [
                (e["set"], e["should_be"], *(f"{unfamiliar[k]} / {unfamiliar['of']}" for k in ("card", "rule")))
                for e in sets
                for unfamiliar in [e[BY_LIMIT]]
                if unfamiliar["of"]
            ],
        ),
        Paragraph(f"Refused at the others' {KNOWN_PERCENTILE}th percentile, not widened, by kind of score:"),
        Rows(
            ("kind of score", *sorted({e["source"] for e in left_out})),
            [
                (kind, *(f"{e['refused']} / {e['n']}" for e in sorted(left_out, key=_source) if e["kind"] == kind))
                for kind in dict.fromkeys(e["kind"] for e in left_out)
            ],
        ),
    ]


def _scores(entries: Sequence[Entry]) -> list[Block]:
    kinds = list(dict.fromkeys(e["what"] for e in entries))
    by = {(e["what"], e["on"]): e for e in entries}
    sets = list(dict.fromkeys(e["on"] for e in entries))
    return [
        Heading("Kinds of score"),
        Paragraph(
            "AUROC (95 % interval, DeLong by patient) against held-out frontal adults of the sources trained on, among "
            f"pictures that the lung gate lets pass, and how many lie above the kind's own {KNOWN_PERCENTILE}th "
            "percentile of those adults."
        ),
        Rows(("set", *kinds), [(on, *(_auc(by[kind, on]) for kind in kinds)) for on in sets]),
        Paragraph("![ROC curves of three kinds of score](gates.svg)"),
    ]


def _lungs(entries: Sequence[Entry]) -> list[Block]:
    rows = [(e["source"], e["reason"], f"{e['refused']} / {e['of']}", str(e["two_lungs_once_turned"])) for e in entries]
    return [
        Heading("Frontal adults without plausible lungs"),
        Paragraph(
            "Development images (trained on and held out) that the lung gate refuses. Some files of NIH ChestX-ray14 "
            "hold a picture lying on its side or standing on its head; the last column counts those that have two "
            "plausible lungs once turned. Refusing them as they lie is right."
        ),
        Rows(("source", "reason", "refused", "two lungs once turned"), rows),
    ]


def _explanation(occlusion: Sequence[Entry], outside: Mapping[str, Any]) -> list[Block]:
    limit = outside["limit"]
    return [
        Heading("Does the drawn activation show what counts?"),
        Paragraph(
            f"Held-out pneumonias and COVIDs: a square of {EDGE:g} of the crop's edge, centred on the highest "
            "activation of the case's own class, is painted in the lungs' mean grey; beside it the mean of "
            f"{BESIDE} such squares centred on random points of the lungs. Falls of the class's logit."
        ),
        Rows(
            ("figure", "class", "value (95 % by patient)", "n"),
            [(e["what"], e["on"], _valued(e), str(e["n"])) for e in occlusion],
        ),
        Paragraph(
            "Share of the COVID activation outside the lungs, over the assessed pictures of each set in which anything "
            "speaks for COVID; doubtful: above "
            f"the card's limit of {'none' if limit is None else f'{limit:.3f}'}."
        ),
        Rows(
            ("set", "median", "90th percentile", "doubtful"),
            [(e["on"], f"{e['median']:.2f}", f"{e['p90']:.2f}", _share(e)) for e in outside["sets"]],
        ),
    ]


def _source(e: Entry) -> str:
    return str(e["source"])


def _share(e: Entry) -> str:
    """Numerator, denominator, share and interval."""
    if not e["n"] or e["value"] is None:
        return "0 / 0"
    hits = round(e["value"] * e["n"])
    return f"{hits} / {e['n']} = {e['value']:.3f} ({e['low']:.3f}–{e['high']:.3f})"


def _auc(e: Entry) -> str:
    return f"{_valued(e)}; {e['refused']} / {e['n']}"


def _valued(e: Entry) -> str:
    if e["value"] is None:
        return "-"
    return f"{e['value']:.2f}" + ("" if e["low"] is None else f" ({e['low']:.2f} to {e['high']:.2f})")
