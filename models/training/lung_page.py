"""The page of the lung networks, from their cards and from what the search wrote: what won, how well, and what not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models import networks
from models.card import Card, read
from models.engine import WEIGHTS
from models.training import lung_study, overlaps, paper
from models.training.commands import Commands, add
from triage.audit.blocks import Block, Bullets, Heading, Paragraph, Rows, to_markdown
from triage.audit.blocks import Commands as Lines

Figure = Mapping[str, Any]
WHATS = (
    "Dice, mean",
    "Dice, worst decile",
    "Dice below 0.8",
    "HD95, share of the edge",
    "no plausible lungs",
)


def add_command(commands: Commands) -> None:
    """`lung-page`."""
    command = add(commands, "lung-page", "write the page of the lung networks from their cards", run)
    command.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the cards lungs and lungs-baseline")
    command.add_argument("--tuning", type=Path, default=Path("docs/models/lung-tuning.json"))
    command.add_argument("--out", type=Path, default=Path("docs/models/lungs.md"))


def run(arguments: argparse.Namespace) -> None:
    """Write the page."""
    ours, before = (read(arguments.weights / f"{name}.json")[0] for name in ("lungs", overlaps.BASELINE))
    found = json.loads(arguments.tuning.read_text(encoding="utf-8"))
    text = page(ours, before, found)
    arguments.out.write_text(text, encoding="utf-8")


def page(ours: Card, before: Card, found: Mapping[str, Any]) -> str:
    """The whole page in markdown."""
    blocks = [
        Paragraph(
            "Two networks, trained on the same images and masks for the same time: a plain U-Net with usual "
            "augmentation (the baseline's kind in Nishio et al.) and one whose settings a search chose. Each has two "
            "outputs, one for each mask convention: *manual* leaves heart and mediastinum out, *v7* counts the lung "
            "behind the heart and most of the heart's outline. An image teaches the output it was drawn by; a set is "
            "judged by the output of its own convention, after the gate's clean-up that the service applies too."
        ),
        *_networks(ours, before),
        *_search(found),
        *_figures(ours, before),
        *_beside_the_paper(ours, before),
        *_aims(ours, before),
        *_licensed(ours),
    ]
    text = to_markdown(f"The lung networks {ours.version}", blocks, "")
    text += (
        "\n## Severe lungs, drawn\n\n"
        "`lung-study --sheet FILE.png` draws image, reference, optimised and baseline side by side, like the paper\n"
        "does, `--outlines FILE.svg` outlines alone. Neither is kept: images and masks may not be given away.\n"
    )
    return text + "\n" + to_markdown("", [*_limits(), *_again(ours)], "").removeprefix("# \n\n")


def _networks(ours: Card, before: Card) -> list[Block]:
    rows = []
    for name, card in (("optimised", ours), ("baseline", before)):
        t = card.training
        size = sum(p.numel() for p in networks.build(card.architecture).parameters())
        rows.append(
            (
                name,
                str(card.architecture["name"]),
                f"{size / 1e6:.2f} million",
                f"{card.architecture['side']} px",
                f"{t['steps']} ({t.get('of_these_at_half_the_side', 0)} at half the side)",
                f"{t['took_minutes']}",
                str(t["started_from"]),
            )
        )
    head = ("network", "kind", "parameters", "input", "steps", "minutes, one core", "started from")
    data_said = ", ".join(f"{row['source']} {row['images']}" for row in _by_source(ours.data))
    return [
        Heading("What was trained"),
        Rows(head, rows),
        Paragraph(f"Training images: {data_said}. {ours.licence}"),
        Paragraph(
            f"Settings of the optimised one: {_pairs(ours.training['settings'], ours)}. "
            f"Of the baseline: {_pairs(before.training['settings'], before)}."
        ),
        Paragraph(
            "After training each output was shifted once, to where the held-out development Dice is best "
            f"(logits taken off: optimised {_taken(ours)}; baseline {_taken(before)}). The service's own threshold, "
            "largest two parts and filled holes follow."
        ),
    ]


def _taken(card: Card) -> str:
    shifts: Mapping[str, float] = card.training.get("taken_off_the_logits", {})
    return ", ".join(f"{convention} {shift:+.2f}" for convention, shift in shifts.items()) or "none"


_OF_ONE_KIND = {"plain-unet": ("decoder",), "unet": ("depth", "width", "dropout")}
"""Settings that a network of another kind has."""


def _pairs(settings: Mapping[str, Any], card: Card) -> str:
    unused = {*_OF_ONE_KIND[card.architecture["name"]], *(() if settings["loss"] == "tversky" else ("missed",))}
    return ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in settings.items() if k not in unused)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _by_source(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    images: dict[str, int] = {}
    for row in rows:
        images[row["source"]] = images.get(row["source"], 0) + int(row["images"])
    return [{"source": s, "images": n} for s, n in images.items()]


def _search(found: Mapping[str, Any]) -> list[Block]:
    trials = found["trials"]
    ended = sum(t["state"] == "complete" for t in trials)
    best = next(t for t in trials if t["number"] == found["best_trial"])
    return [
        Heading("What was searched, and what won"),
        Paragraph(
            f"{len(trials)} trials of Optuna's TPE at {found['side']} px, {len(trials) - ended} of them pruned; "
            "[lung-tuning.md](lung-tuning.md) has the space and every trial. The space is ours: the paper's was not "
            "published where we could read it, so this repeats its idea and not its search. The merit, mean Dice and "
            "worst tenth over both conventions, was read from held-out development images; no external image took "
            f"part. Best: trial {best['number']} with {best['merit']:.4f}; what one would have taken untuned, trial 0, "
            f"reached {next((t['merit'] for t in trials if t['number'] == 0 and t['merit']), float('nan')):.4f}. "
            "One seed a trial: differences of a few thousandths among the best trials are chance. Trials end by the "
            "clock, so what else the machine did (a few tests) counted against some of them."
        ),
    ]


def _figures(ours: Card, before: Card) -> list[Block]:
    sets = [name for role in overlaps.SETS.values() for name, _, _ in role]
    mine, theirs = ({(f["what"], f["on"]): f for f in c.performance} for c in (ours, before))
    rows = []
    for on in sets:
        for what in WHATS:
            if (what, on) in mine:
                gain = [mine.get((overlaps.GAIN, on)), mine.get((f"{overlaps.GAIN}: Wilcoxon's p", on))]
                said = (_cell(gain[0]), _p(gain[1])) if what == WHATS[0] else ("", "")
                n = str(mine[(what, on)]["n"])
                rows.append((on, what, _cell(theirs.get((what, on))), _cell(mine[(what, on)]), *said, n))
    return [
        Heading("Figures"),
        Rows(("set", "figure", "baseline", "optimised", "difference, paired", "Wilcoxon's p", "images"), rows),
        Paragraph(
            "Intervals are 95 %: whole patients drawn anew; of the paired difference by BCa; of shares by Wilson for "
            "as many images as the patients are worth. HD95 is a share of the picture's edge, for the pixel size is "
            "not known. Dice of the two conventions must not be compared. Fold 0 and the held-out children steered "
            "the search and are too kind; the external sets steered nothing."
        ),
    ]


def _beside_the_paper(ours: Card, before: Card) -> list[Block]:
    external = [name for name, _, _ in overlaps.SETS["external"]]
    cells = {
        who: [
            _cell(next((f for f in c.performance if (f["what"], f["on"]) == (WHATS[0], on)), None)) for on in external
        ]
        for who, c in (("baseline U-Net", before), ("optimised U-Net", ours))
    }
    theirs = {(f["who"], f["what"]): paper.spread_of(f) for f in paper.LUNGS}
    rows = [
        (
            who,
            theirs[(who, "Dice, JSRT")],
            theirs[(who, "Dice, Montgomery")],
            mine[0],
            theirs[(who, "Dice, severe")],
            mine[1],
        )
        for who, mine in cells.items()
    ]
    head = ("mean Dice", "paper, JSRT", "paper, Montgomery", "ours, Montgomery", "paper, severe", "ours, severe")
    return [
        Heading("Beside the paper's"),
        Rows(head, rows),
        Paragraph(
            f"The paper's were {paper.CAUTION}. It had all 138 images of Montgomery, here there are 68; its severe "
            "lungs are not ours (web_eurorad, v7 masks). JSRT was not to be had."
        ),
    ]


def _aims(ours: Card, before: Card) -> list[Block]:
    """What was to be reached on the external sets, and whether it was."""
    montgomery, severe = (name for name, _, _ in overlaps.SETS["external"])
    wanted = (
        ("baseline on Montgomery", before, WHATS[0], montgomery, "value", 0.941),
        ("optimised on Montgomery", ours, WHATS[0], montgomery, "value", 0.973),
        ("optimised on severe lungs", ours, WHATS[0], severe, "value", 0.932),
        ("severe lungs: lower limit of the paired difference", ours, overlaps.GAIN, severe, "low", 0.0),
    )
    rows = []
    for name, card, what, on, key, least in wanted:
        figure = next((f for f in card.performance if (f["what"], f["on"]) == (what, on)), None)
        if figure is not None and figure[key] is not None:
            is_met = figure[key] > least if key == "low" else figure[key] >= least
            rows.append((name, f"{least:g}", f"{figure[key]:.4f}", "reached" if is_met else "NOT reached"))
    return [Heading("Aims"), Rows(("", "wanted", "found", ""), rows)] if rows else []


def _licensed(ours: Card) -> list[Block]:
    rows = [
        (f["on"].split(", against")[0], f["on"].split("against ")[-1], _cell(f), str(f["n"]))
        for f in ours.performance
        if f["what"] == lung_study.LICENSED
    ]
    if not rows:
        return []
    return [
        Heading("Against weights trained on permitted data only"),
        Rows(("set", "compared with", "Dice, these minus those", "images"), rows),
        Paragraph(
            f"The rule: the licensed weights are the default if they lie within {lung_study.RULE_WITHIN} Dice of the "
            f"others, judged on v7 masks, the convention that both know. {_by_the_rule(ours)} The licensed network has "
            "never seen a manual mask and answers manual sets by its v7 output, heart included: its loss there is one "
            "of convention, not of skill. It was also trained with other settings, at 192 px and for a shorter time: "
            "not all of the difference is the data's. Sets ship whole, though: the permitted classifier falls short by "
            "more than its 0.03, and only these lungs answer by the manual convention, so these are the default, the "
            "others in models/weights/commercial."
        ),
    ]


def _by_the_rule(ours: Card) -> str:
    judged = [
        f for f in ours.performance if f["what"] == lung_study.LICENSED and f["on"].startswith(lung_study.RULE_ON)
    ]
    if not judged or judged[0]["value"] is None:
        return ""
    is_within = judged[0]["value"] <= lung_study.RULE_WITHIN
    return f"They do{'' if is_within else ' not'}: {_cell(judged[0])} over {judged[0]['n']} images."


def _limits() -> list[Block]:
    return [
        Heading("Limits, in plain words"),
        Bullets(
            (
                "V7 masks were learnt from children and a few severely ill adults, manual ones from one hospital's "
                "upright adults; what a severely ill adult's lungs are by the manual convention, or a well adult's by "
                "V7's, was never shown.",
                "28 severe external images of few patients. The interval of the mean difference and Wilcoxon's test "
                "ask different questions and need not agree. The gain is of thousandths, the worst tenth gains none.",
                "The optimised network differs from the baseline in its encoder, its ImageNet start, its size and its "
                "training: the search's own share of the gain was not measured apart.",
                "One run of each network with one seed; how far another seed would lie apart was not measured. Minutes "
                "on one core limit both, the plain U-Net (random weights) more than the other (ImageNet weights).",
                "A lung that is wholly white may be cut short; devices over a lung may notch its outline.",
            )
        ),
    ]


def _again(ours: Card) -> list[Block]:
    t = ours.training
    return [
        Heading("The same again"),
        Lines(
            (
                "python -m models --threads 1 tune --weights-from IMAGENET --scratch DIR --budget-minutes 28",
                "python -m models --threads 1 train lungs --network optimised \\",
                "    --settings docs/models/lung-tuning.json --weights-from IMAGENET \\",
                f"    --side {ours.architecture['side']} --steps 100000 \\",
                f"    --budget-minutes {t['budget_minutes']:g} --version {ours.version} --out OUT",
                "python -m models --threads 1 train lungs --network baseline \\",
                f"    --side {ours.architecture['side']} --steps 100000 \\",
                f"    --budget-minutes {t['budget_minutes']:g} --version {ours.version} --out OUT",
                "python -m models lung-study --weights OUT --licensed LICENSED --write",
                "python -m models lung-study --weights OUT --role external --write \\",
                "    --sheet SHEET.png --outlines OUTLINES.svg",
                "python -m models lung-page --weights OUT",
            )
        ),
        Paragraph(
            "TRIAGE_CXR names the folder of radiographs. The external look adds a line to the ledger; "
            "`external-validation --write` measures the same sets with the shipped engine, after which `lung-page` "
            "writes this page anew. A run ends by the clock, so another machine makes other weights."
        ),
    ]


def _cell(figure: Figure | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    limits = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.3f}{limits}"


def _p(figure: Figure | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    return "< 0.001" if figure["value"] < 0.001 else f"{figure['value']:.3f}"
