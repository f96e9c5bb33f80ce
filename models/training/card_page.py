"""A model card as a page: what it was trained on, how well it does and where not, beside the paper's figures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.card import Card, read
from models.engine import CLASSES, WEIGHTS
from models.training import paper
from models.training.commands import Commands, add
from models.training.evaluate import NAMES
from triage.audit import drawing
from triage.audit.blocks import Block, Bullets, Drawings, Heading, Paragraph, Rows, to_html, to_markdown
from triage.audit.blocks import Commands as Lines
from triage.domain.finding import ModelIdentity

Figure = Mapping[str, Any]
FOLD, EXTERNAL = NAMES["dev"], NAMES["external"]
INCLUDED = f"{EXTERNAL}, refused included"
WITHIN = "AUC COVID against pneumonia within one source"
HEADLINES = (
    *(f"AUC {c} against rest" for c in CLASSES),
    "AUC, mean of pairs (Hand-Till)",
    "balanced accuracy",
    "accuracy",
    *(f"recall {c}" for c in CLASSES),
    "COVID sensitivity at the operating point",
    "COVID specificity at the operating point",
)
SUBGROUPS = ("sex", "age", "view")
INTERVALS = (
    "Intervals are 95 % and count patients, not images: areas by DeLong with patients as clusters (Obuchowski 1997), "
    "shares by Wilson for as many images as the patients are worth, the rest by drawing whole patients anew."
)


def add_command(commands: Commands) -> None:
    """`card`."""
    command = add(commands, "card", "render the model cards as pages", run)
    command.add_argument("--weights", type=Path, nargs="+", default=[WEIGHTS], help="folders of weights and cards")
    command.add_argument("--out", type=Path, default=Path("docs/models"))


def run(arguments: argparse.Namespace) -> None:
    """Write a page and its markdown twin for every card of every folder."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    for folder in arguments.weights:
        for path in cards_of(folder):
            card, identity = read(path)
            title, found = f"Model card: {card.name} {card.version}", blocks(card, identity)
            stem = f"{card.name}-{card.version}" + ("" if folder.name == WEIGHTS.name else f"-{folder.name}")
            (arguments.out / f"{stem}.html").write_text(to_html(title, found), encoding="utf-8")
            (arguments.out / f"{stem}.md").write_text(to_markdown(title, found, f"{stem}.html"), encoding="utf-8")


def cards_of(folder: Path) -> list[Path]:
    """The cards of a folder: every JSON file that has weights of the same name."""
    return sorted(p for p in folder.glob("*.json") if p.with_suffix(".safetensors").exists())


def blocks(card: Card, identity: ModelIdentity) -> list[Block]:
    """The page, whichever network it is about."""
    return [
        *_what_it_is(card, identity),
        *(_chest(card) if card.name == "chest" else _lungs(card)),
        *_data(card),
        *_again(card),
    ]


def _what_it_is(card: Card, identity: ModelIdentity) -> list[Block]:
    use = card.intended_use
    unknown = "a radiograph without an age is accepted" if use.accept_unknown_age else "an age must be known"
    permitted = {True: "permitted by the data", False: "NOT permitted by the data", None: "see the licence"}
    said: list[Block] = [
        Paragraph(
            "Not a diagnostic device. Results are preliminary and only move a study forward in the reading list; "
            "'not flagged' never means 'negative'. Not validated for clinical use.",
            is_warning=True,
        ),
        Rows(
            ("", ""),
            (
                ("weights", identity.weights_sha256),
                ("card", identity.card_sha256),
                ("architecture", _pairs(card.architecture)),
                ("commercial use", permitted[card.commercial_use]),
                (
                    "made for",
                    f"frontal chest radiographs ({', '.join(use.modalities)}) from {use.minimum_age_years:g} years; "
                    + unknown,
                ),
            ),
        ),
        Heading("Limits, in plain words"),
        Bullets(card.limits),
        Heading("Licence"),
        Paragraph(card.licence, is_warning=card.commercial_use is False),
    ]
    return said


def _chest(card: Card) -> list[Block]:
    return [*_performance(card), *_operating(card), *_calibration(card), *_gates(card)]


def _performance(card: Card) -> list[Block]:
    within = [f for f in card.performance if f["what"] == WITHIN]
    at = {(f["what"], f["on"]): f for f in card.performance}
    rows = [
        (what, *(_with_n(at.get((what, on))) for on in (EXTERNAL, INCLUDED, FOLD)), paper.network_figure(what))
        for what in HEADLINES
        if any((what, on) in at for on in (EXTERNAL, FOLD))
    ]
    found: list[Block] = [
        Heading("Performance"),
        Paragraph(
            "First the one comparison that the source of an image cannot answer: COVID against pneumonia inside a "
            "single external source. Everything against rest is confounded: the external normals come from one "
            "hospital, the external pneumonias and COVID from another collection."
        ),
        Rows(("COVID against pneumonia, one source", "AUC"), [(f["on"], _with_n(f)) for f in within]),
        Rows(("figure", "external, assessed", "external, refused included", FOLD, "paper (OTHER DATA)"), rows),
        Paragraph(
            f"{INTERVALS} Recalls take the most probable class. 'Refused included' keeps what the networks said of an "
            "image that the gate refuses, and counts an image without lungs as missed. The few external images of "
            "under-18s, whom the service refuses by their age, are counted. Fold 0 shares its sources with the "
            "training and is too kind."
        ),
    ]
    if beside := _baselines(card):
        found.append(beside)
    return [*found, *_by_source(card), *_paper(paper.CHEST)]


def _baselines(card: Card) -> Rows | None:
    names = ("trivial features", "frozen MobileNetV2")
    at = {(f["what"], f["on"]): f for f in card.performance}
    columns = [n for n in names if ("balanced accuracy", f"{EXTERNAL}, {n}") in at]
    if not columns:
        return None
    whats = [w for w in HEADLINES if (w, f"{EXTERNAL}, {columns[0]}") in at]
    rows = [
        (w, _with_n(at.get((w, EXTERNAL))), *(_with_n(at.get((w, f"{EXTERNAL}, {n}"))) for n in columns)) for w in whats
    ]
    return Rows(("external, assessed", "this classifier", *(f"baseline: {n}, no lungs seen" for n in columns)), rows)


def _by_source(card: Card) -> list[Block]:
    found: list[Block] = [Heading("By source")]
    for on in (EXTERNAL, FOLD):
        rows = [
            {**f, "label": f"{f['on'].removeprefix(on + ', ')}: {f['what']}"}
            for f in card.performance
            if f["on"].startswith(on + ", ") and f["what"].startswith("recall") and _is_source(f["on"], on) and f["n"]
        ]
        if rows:
            found.append(Drawings([drawing.forest(rows, f"Recalls by source, {on}")], f"recalls by source, {on}"))
            found.append(_parts(card, on, lambda name: not name.startswith(SUBGROUPS)))
    found.append(Heading("By sex, age and view"))
    found.append(
        Paragraph("A figure is given only where there are ten images of each kind it compares; else: insufficient.")
    )
    found += [_parts(card, on, lambda name: name.startswith(SUBGROUPS)) for on in (EXTERNAL, FOLD)]
    return found


def _is_source(on: str, role: str) -> bool:
    rest = on.removeprefix(role + ", ")
    return "," not in rest and not rest.startswith((*SUBGROUPS, "refused", "trivial", "frozen"))


def _parts(card: Card, role: str, wanted: Any) -> Rows:
    """One line a part: the three recalls together, COVID's area, the share flagged of each class."""
    at = {(f["what"], f["on"]): f for f in card.performance}
    names = [
        on.removeprefix(role + ", ")
        for on in dict.fromkeys(f["on"] for f in card.performance)
        if on.startswith(role + ", ") and ("AUC covid against rest", on) in at
    ]
    names = [n for n in names if "," not in n and not n.startswith(("refused", "trivial", "frozen")) and wanted(n)]
    whats = [*(f"recall {c}" for c in CLASSES), "AUC covid against rest", *(f"flagged, truly {c}" for c in CLASSES)]
    rows = [(n, *(_with_n(at.get((w, f"{role}, {n}"))) for w in whats)) for n in names]
    return Rows((role, *whats), rows)


def _operating(card: Card) -> list[Block]:
    points = [(str(p.code), f"{p.threshold:.3f}", p.rule, p.source) for p in card.operating_points]
    return [
        Heading("Operating point"),
        Rows(("class", "threshold", "rule", "set on"), points),
        Paragraph(
            "The rule holds on the images it was set on. What it gave on the external images stands in the table "
            "above; no site may rely on the sensitivity of the rule before its own acceptance."
        ),
    ]


def _calibration(card: Card) -> list[Block]:
    rows = [
        (f["what"], f["on"], _with_n(f)) for f in card.performance if f["what"].startswith(("Brier", "calibration "))
    ]
    found: list[Block] = [
        Heading("Calibration"),
        Paragraph(
            f"Logits are divided by a temperature of {card.temperature:.3f}, then "
            f"{', '.join(f'{b:+.3f} ({c})' for b, c in zip(card.bias, CLASSES, strict=True))} is added. Fitted on "
            f"{card.calibrated_on} with every class weighing the same: the probabilities hold where the three "
            "classes are equally frequent, so a site's own share of each shifts the true ones."
        ),
        Rows(("figure", "on", "value"), rows),
    ]
    for on, curves in card.curves.items():
        by_class = [drawing.reliability(c["reliability"], f"{name}, {on}") for name, c in curves.items()]
        found.append(Drawings(by_class, f"reliability on {on}: said against seen, in bins of equal counts"))
        areas = {name: c["roc"] for name, c in curves.items()}
        found.append(Drawings([drawing.roc(areas, f"ROC, {on}")], f"ROC curves on {on}, each class against the rest"))
    return found


def _gates(card: Card) -> list[Block]:
    limits = []
    if card.gate_limit is not None:
        limits.append(("out-of-distribution score above which an image is refused", f"{card.gate_limit:.3f}"))
    if card.activation_outside_limit is not None:
        words = "share of activation outside the lungs above which a result is marked doubtful"
        limits.append((words, f"{card.activation_outside_limit:.3f}"))
    refused = [(f["on"], f["what"], _with_n(f)) for f in card.performance if f["what"].startswith("refused")]
    return [Heading("Gates"), Rows(("limit", ""), limits), Rows(("set", "what", "share"), refused)]


def _lungs(card: Card) -> list[Block]:
    rows = [(f["on"], f["what"], _with_n(f)) for f in card.performance]
    dice = [{**f, "label": f["on"]} for f in card.performance if f["what"] == "Dice, mean"]
    return [
        Heading("Performance"),
        Drawings([drawing.forest(dice, "Mean Dice by set")], "mean Dice by set and mask convention"),
        Rows(("set", "figure", "value"), rows),
        Paragraph(
            f"{INTERVALS} Masks drawn by hand leave heart and mediastinum out, those called v7 do not: Dice of the two "
            "conventions must not be compared. HD95 is a share of the picture's edge, as the pixel size is not known."
        ),
        *_paper(paper.LUNGS),
    ]


def _paper(figures: Sequence[Mapping[str, Any]]) -> list[Block]:
    return [
        Heading("The paper's figures"),
        Paragraph(
            "Nishio et al. measured these on other images of other patients. They stand here as what was once reached, "
            "not as a comparison.",
            is_warning=True,
        ),
        Rows(
            ("who", "figure", "theirs (OTHER DATA)"), [(f["who"], f["what"], paper.spread_of(dict(f))) for f in figures]
        ),
    ]


def _data(card: Card) -> list[Block]:
    columns = ("source", "label", "licence_class", "images", "patients")
    return [
        Heading("Trained on"),
        Rows(columns, [tuple(str(row.get(c, "")) for c in columns) for row in card.data]),
        Paragraph(card.split),
        Paragraph(f"Training: {_pairs(card.training)}."),
        Paragraph(f"Before the network: {_pairs(card.preprocessing)}."),
    ]


def _again(card: Card) -> list[Block]:
    return [
        Heading("The same figures again"),
        Lines(
            (
                "python -m models evaluate --role dev --check",
                "python -m models external-validation --imagenet mobilenetv2_100.safetensors",
                "python -m models card --out docs/models",
            )
        ),
        Paragraph(
            "TRIAGE_CXR (or --cxr) names the folder of radiographs. Every look at the external images adds a line to "
            "docs/models/external-validation-ledger.jsonl."
        ),
    ]


def _pairs(mapping: Mapping[str, Any]) -> str:
    return "; ".join(f"{k.replace('_', ' ')}: {_pairs(v) if isinstance(v, Mapping) else v}" for k, v in mapping.items())


def _with_n(figure: Figure | None) -> str:
    """The figure as a cell: value, interval and number of images, or why there is none."""
    if figure is None:
        return "–"
    if figure["value"] is None:
        return str(figure.get("interval", "–")) if figure["n"] else "no images"
    limits = "" if figure["low"] is None else f" ({figure['low']:.3f}–{figure['high']:.3f})"
    return f"{figure['value']:.3f}{limits}, n={figure['n']}"
