"""Can the source of an image be read from what the classifier makes of it? A linear probe, beside trivial features."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from models.engine import WEIGHTS, Engine, Reading
from models.training import data, evaluate, linear
from models.training.baselines import trivial
from models.training.commands import Commands, add, add_cxr
from models.training.figures import by_patient, entry
from triage.domain.finding import ChestClass

LEAST_IMAGES = 20
"""A source with fewer images is left out of a probe."""


def add_command(commands: Commands) -> None:
    """`python -m models source-probe`."""
    command = add(commands, "source-probe", "try to read the source from the embedding", run)
    add_cxr(command)
    command.add_argument("--weights", type=Path, default=WEIGHTS)
    command.add_argument("--out", type=Path, default=Path("docs/models/source-probe.md"))


def run(arguments: argparse.Namespace) -> None:
    """Probe the shipped classifier on the development images and write the table."""
    engine = Engine.load(arguments.weights, threads=arguments.threads)
    every = data.read_manifest(arguments.cxr)
    cases = [c for held_out in (False, True) for c in data.chest_cases(every, held_out=held_out, licensed=False)]
    outcomes = evaluate.readings(engine, cases, "embeddings")
    seen = [(c, o) for c, o in zip(cases, outcomes, strict=True) if isinstance(o, Reading)]
    cases = [c for c, _ in seen]
    spaces = {
        "classifier's embedding": np.stack([o.embedding for _, o in seen]).astype(np.float64),
        "classifier's three probabilities": np.log(np.stack([o.probabilities for _, o in seen]) + 1e-6),
        "trivial features of the whole image": np.stack(
            [trivial(data.read_pixels(c.path)) for c in track(cases, "trivial features")]
        ),
    }
    found = [figure for name, features in spaces.items() for figure in probed(features, cases, name)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page(found, engine.classifier.version, engine.classifier.card_sha256), encoding="utf-8")


def probed(features: npt.NDArray[np.float64], cases: Sequence[data.Case], name: str) -> list[dict[str, Any]]:
    """Balanced accuracy of reading the source: over all images, and among the normals alone (class held fixed)."""
    found = []
    for on, wanted in (
        ("all four sources", tuple(ChestClass)),
        ("normals only, NIH or Shenzhen", (ChestClass.NORMAL,)),
        ("COVID only, Hannover or journals", (ChestClass.COVID,)),
    ):
        rows = np.array([i for i, c in enumerate(cases) if c.label in wanted])
        sources, counts = np.unique([cases[i].source for i in rows], return_counts=True)
        kept = [str(s) for s, n in zip(sources, counts, strict=True) if n >= LEAST_IMAGES]
        rows = np.array([i for i in rows if cases[i].source in kept])
        if len(kept) < 2:
            continue
        truth = np.array([kept.index(cases[i].source) for i in rows])
        patients = [cases[i].patient_id for i in rows]
        said = linear.cross_validated(features[rows], truth, patients).argmax(1)

        def mean_recall(i: npt.NDArray[np.int_], said: Any = said, truth: Any = truth) -> float:
            return float(np.mean([(said[i] == truth[i])[truth[i] == k].mean() for k in np.unique(truth[i])]))

        low, high = by_patient(patients, mean_recall)
        value = mean_recall(np.arange(len(rows)))
        found.append(
            entry(f"source read from the {name}", on, value, low, high, len(rows), "bootstrap by patient")
            | {"chance": round(1 / len(kept), 3)}
        )
    return found


def page(found: Sequence[dict[str, Any]], version: str, digest: str) -> str:
    """The table as Markdown."""
    lines = [
        "# Can the source be read from the classifier?",
        "",
        f"Classifier {version}, card {digest[:12]}. A linear probe (softmax regression, five parts by",
        "patient) is asked for the source; development images only. Balanced accuracy with 95 % intervals",
        "by patient. What can be read",
        "need not be used, but what cannot be read cannot be used.",
        "",
        "    python -m models source-probe --cxr $TRIAGE_CXR",
        "",
        "| figure | on | balanced accuracy | chance | n |",
        "|---|---|---|---|---|",
    ]
    for f in found:
        interval = f"{f['value']:.3f} ({f['low']:.3f}–{f['high']:.3f})"
        lines.append(f"| {f['what']} | {f['on']} | {interval} | {f['chance']} | {f['n']} |")
    return "\n".join(lines) + "\n"
