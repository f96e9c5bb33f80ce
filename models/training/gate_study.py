"""What the gates refuse, by what, and whether the drawn activation means anything; as a page with its numbers."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from models import gate
from models.card import Card
from models.engine import WEIGHTS, Engine
from models.training import data, gate_explanation, gate_page, gate_scores, ledger
from models.training.commands import Commands, add, add_cxr
from models.training.figures import share
from models.training.gate_pictures import CHANGES, CHILDREN, PictureSet, cases, real_sets, spoilt, spoilt_sets
from models.training.gate_readings import BY_LIMIT, Seen, read_sets
from models.training.scores import Figures

FRONTAL = "development fold 0, frontal adults"
TUBERCULOSIS = "development fold 0, tuberculosis"
TRAINED = "training images"
TURNS = ("turned by 90 degrees", "turned by 180 degrees", "turned by 270 degrees")


@dataclass(frozen=True)
class Known:
    """Frontal adults with two plausible lungs: those trained on and the held-out ones of the same sources."""

    embeddings: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int_]
    sources: tuple[str, ...]
    held_out: npt.NDArray[np.float32]
    held_out_scores: npt.NDArray[np.float64]
    held_out_sources: tuple[str, ...]


def add_command(commands: Commands) -> None:
    """`gates`."""
    command = add(commands, "gates", "measure what the gates refuse", run)
    add_cxr(command)
    command.add_argument("--corpus", type=Path, required=True, help="folder with dicom/manifest.csv")
    command.add_argument("--weights", type=Path, default=WEIGHTS)
    command.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "triage-gates")
    command.add_argument("--most", type=int, default=80, help="pictures in each set made by spoiling radiographs")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--out", type=Path, default=Path("docs/models"))
    command.add_argument("--ledger", type=Path, default=ledger.LEDGER, help="every look at the external role is added")
    command.add_argument("--write", action="store_true", help="write gates.md, gates.json and gates.svg to --out")


def run(arguments: argparse.Namespace) -> None:
    """Read every set, or find it read in --scratch; print the page, and with --write put it into --out."""
    engine = Engine.load(arguments.weights, threads=1, runtime="auto")
    every = data.read_manifest(arguments.cxr)
    found, curves = studied(engine, every, arguments)
    ledger.add_look(arguments.ledger, "gates", engine, external_figures(found["sets"]), datetime.now(UTC))
    page, drawing = gate_page.page(found), gate_page.drawn(curves)
    if not arguments.write:
        Console(width=160).print(page, markup=False, highlight=False)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gates.json").write_text(
        json.dumps({**found, "curves": curves}, indent=1) + "\n", encoding="utf-8"
    )
    (arguments.out / "gates.md").write_text(page, encoding="utf-8")
    (arguments.out / "gates.svg").write_text(drawing + "\n", encoding="utf-8")


def studied(
    engine: Engine, every: Sequence[data.Case], arguments: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, list[list[float]]]]:
    """Every figure of the page, and the points of its curves."""
    card = engine.cards["chest"]
    trained = trained_on(card, every)
    frontal = data.chest_cases(every, held_out=True, licensed=False)
    sets = real_sets(every, frontal, arguments.corpus, engine.intended_use, arguments.most)
    ill = PictureSet(TUBERCULOSIS, cases(data.tuberculosis_cases(every, held_out=True)), is_eligible=True)
    seen = read_sets(engine, [PictureSet(TRAINED, cases(trained)), *sets, ill], arguments.scratch)
    upright = [c for c, has in zip(frontal, seen[FRONTAL].has_lungs, strict=True) if has]
    made = spoilt_sets(upright, arguments.most, arguments.seed)
    seen |= read_sets(engine, made, arguments.scratch)
    sets = [sets[0], ill, *sets[1:], *made]
    known = known_of(trained, seen[TRAINED], frontal, seen[FRONTAL])
    left_out = gate.left_out(known.embeddings, known.labels, known.sources, known.held_out, known.held_out_sources)
    limit, ruled = float(card.gate_limit or np.inf), gate.limit_of(known.held_out_scores, left_out)
    strangers = {s.name: seen[s.name] for s in sets if not s.is_eligible and s.name != CHILDREN}
    is_known = np.isin([c.source for c in frontal], sorted(set(known.sources)))
    compared, curves = gate_scores.compared(known.embeddings, known.labels, seen[FRONTAL].where(is_known), strangers)
    explained = gate_explanation.chosen(upright, 40, arguments.seed)
    doubt = card.activation_outside_limit
    return {
        "made_by": "python -m models gates --cxr $TRIAGE_CXR --corpus $TRIAGE_CORPUS --write",
        "seed": arguments.seed,
        "classifier": f"{engine.classifier.version}, card {engine.classifier.card_sha256[:12]}",
        "lungs": f"{engine.segmenter.version}, card {engine.segmenter.card_sha256[:12]}",
        "runtime": engine.runtime,
        "limit": {
            "card": limit,
            "rule": ruled,
            "held_out_percentile": float(np.percentile(known.held_out_scores, gate.KNOWN_PERCENTILE)),
            "held_out": len(known.held_out_scores),
            "sources": {s: {"widening": one.widening, "images": len(one.stranger)} for s, one in left_out.items()},
        },
        "sets": [set_entry(s.name, seen[s.name], limit, ruled, is_eligible=s.is_eligible) for s in sets],
        "sources": [
            set_entry(f"{FRONTAL}: {source}", seen[FRONTAL].where(rows), limit, ruled, is_eligible=True)
            for source in sorted({c.source for c in frontal})
            for rows in [np.array([c.source == source for c in frontal])]
        ],
        "lungs_refused": lungs_refused(
            engine, [*trained, *frontal], [*seen[TRAINED].detail, *seen[FRONTAL].detail], arguments.scratch
        ),
        "scores": compared,
        "left_out": gate_scores.left_out_refusals(
            known.embeddings, known.labels, known.sources, known.held_out, known.held_out_sources
        ),
        "occlusion": gate_explanation.figures(
            gate_explanation.falls(engine, arguments.weights, explained, arguments.seed)
        ),
        "outside": {
            "limit": doubt,
            "sets": [e for s in sets for e in outside_entry(s.name, seen[s.name], limit, doubt)],
        },
    }, curves


def trained_on(card: Card, every: Sequence[data.Case]) -> list[data.Case]:
    """The cases that the card says were trained on."""
    kinds = {(d["source"], d["label"], d["licence_class"]) for d in card.data}
    some = data.chest_cases(every, held_out=False, licensed=False) + data.tuberculosis_cases(every, held_out=False)
    return [c for c in some if (c.source, c.label, c.licence_class) in kinds]


def known_of(trained: Sequence[data.Case], seen: Seen, frontal: Sequence[data.Case], held_out: Seen) -> Known:
    """Those with two plausible lungs, of the sources that were trained on."""
    sources = {c.source for c in trained}
    rows = held_out.has_lungs & np.array([c.source in sources for c in frontal])
    return Known(
        embeddings=seen.embedding[seen.has_lungs],
        labels=np.array([data.label_of(c) for c, has in zip(trained, seen.has_lungs, strict=True) if has]),
        sources=tuple(c.source for c, has in zip(trained, seen.has_lungs, strict=True) if has),
        held_out=held_out.embedding[rows],
        held_out_scores=held_out.score[rows],
        held_out_sources=tuple(c.source for c, has in zip(frontal, rows, strict=True) if has),
    )


def set_entry(name: str, seen: Seen, limit: float, ruled: float, *, is_eligible: bool) -> dict[str, Any]:
    """How many of one set each gate refuses, and how many would have been assessed."""
    n, headers = len(seen), [str(h) for h in seen.header if h]
    reasons = seen.reasons(limit)
    passes = seen.passes(limit)
    return {
        "set": name,
        "should_be": "assessed" if is_eligible else "refused",
        "n": n,
        "header": {h: headers.count(h) for h in sorted(set(headers))},
        "pixels": dict(sorted(reasons.items())),
        "refused_by_pixels": share("refused by pixels", name, sum(reasons.values()), n),
        "assessed": share("assessed", name, int((passes & (seen.header == "")).sum()), n),
        BY_LIMIT: {"card": reasons[BY_LIMIT], "rule": seen.reasons(ruled)[BY_LIMIT], "of": int(seen.has_lungs.sum())},
    }


def external_figures(entries: Sequence[Mapping[str, Any]]) -> Figures:
    """What was seen of the external role, as the ledger keeps it."""
    return [
        figure
        for e in entries
        if e["set"].startswith("external")
        for unfamiliar in [e[BY_LIMIT]]
        for figure in (
            e["refused_by_pixels"],
            share("refused as unfamiliar by the card's limit", e["set"], unfamiliar["card"], unfamiliar["of"]),
            share("refused as unfamiliar by the rule's limit", e["set"], unfamiliar["rule"], unfamiliar["of"]),
        )
    ]


def lungs_refused(
    engine: Engine, some: Sequence[data.Case], details: Sequence[str], scratch: Path
) -> list[dict[str, Any]]:
    """
    Development adults without plausible lungs, by source and reason, and how many have two lungs once turned.

    Some files of NIH ChestX-ray14 hold a picture that lies on its side or stands on its head.
    """
    refused = [(c, kind_of(d)) for c, d in zip(some, details, strict=True) if d]
    again = [
        PictureSet(f"refused adults, {turn}", [spoilt(c, CHANGES[turn], 0) for c, _ in refused], is_eligible=True)
        for turn in TURNS
    ]
    read = read_sets(engine, again, scratch) if refused else {}
    is_turned = np.any([read[s.name].has_lungs for s in again], axis=0) if refused else np.zeros(0, dtype=bool)
    counts = {s: sum(c.source == s for c in some) for s in sorted({c.source for c in some})}
    return [
        {
            "source": source,
            "reason": reason,
            "refused": len(rows),
            "two_lungs_once_turned": int(is_turned[rows].sum()),
            "of": count,
        }
        for source, count in counts.items()
        for reason in sorted({r for c, r in refused if c.source == source})
        for rows in [[i for i, (c, r) in enumerate(refused) if (c.source, r) == (source, reason)]]
    ]


def kind_of(detail: str) -> str:
    """A refusal's words without its number."""
    return " ".join("…" if w[0].isdigit() else w for w in detail.split())


def outside_entry(name: str, seen: Seen, limit: float, doubt: float | None) -> Figures:
    """Share of the COVID activation outside the lungs, over what is assessed; nothing where nothing is."""
    values = seen.outside[seen.passes(limit) & np.isfinite(seen.outside)]
    if not len(values):
        return []
    middle, high = np.quantile(values, (0.5, 0.9))
    doubtful = share("doubtful", name, int((values > (np.inf if doubt is None else doubt)).sum()), len(values))
    return [doubtful | {"median": round(float(middle), 4), "p90": round(float(high), 4)}]
