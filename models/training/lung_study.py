"""The lung networks of one folder alone: figures, gains over the baseline and the licensed weights, drawings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from models.engine import CONVENTION, WEIGHTS
from models.training import data, evaluate, ledger, lung_sheet, overlaps
from models.training.commands import Commands, add, add_cxr
from models.training.scores import Figures
from triage.domain.finding import ModelIdentity

LICENSED = "Dice, minus the licensed weights', paired"
RULE_ON, RULE_WITHIN = f"all held-out {CONVENTION} masks", 0.01
"""The licensed weights are the default where they lose no more Dice than this."""
DRAWN = {"dev": "hannover_v1crop", "external": "web_eurorad"}
"""By role, the source whose severely ill lungs are drawn."""


def add_command(commands: Commands) -> None:
    """`lung-study`."""
    command = add(commands, "lung-study", "measure and draw the lung networks alone", run)
    add_cxr(command)
    command.add_argument("--role", choices=tuple(overlaps.SETS), default="dev")
    command.add_argument(
        "--weights", type=Path, default=WEIGHTS, help="folder of lungs and, where made, lungs-baseline"
    )
    command.add_argument("--licensed", type=Path, help="folder of lungs trained on permitted data only, to be compared")
    command.add_argument("--write", action="store_true", help="put the figures into the cards")
    command.add_argument("--sheet", type=Path, help="PNG with the radiographs themselves; never for the repository")
    command.add_argument("--outlines", type=Path, help="SVG of the same cases' outlines alone")
    command.add_argument("--ledger", type=Path, default=ledger.LEDGER, help="every look at the external role is added")


def run(arguments: argparse.Namespace) -> None:
    """Print the lung figures of one role, and write and draw what is asked for."""
    folder, every = arguments.weights, data.read_manifest(arguments.cxr)
    ours = overlaps.LungNetwork(folder, "lungs")
    found = overlaps.role_figures(ours, folder, every, arguments.role)
    if arguments.licensed:
        licensed = overlaps.LungNetwork(arguments.licensed, "lungs")
        found["lungs"] += against_licensed(ours, licensed, every, arguments.role)
    for name, figures in found.items():
        evaluate.shown(folder, name, figures)
        if arguments.write:
            evaluate.written(folder, name, figures, {})
    if arguments.sheet or arguments.outlines:
        draw(arguments, ours, every)
    if arguments.role == "external":
        write_down(arguments.ledger, ours, found)


def against_licensed(
    ours: overlaps.Segmenter, licensed: overlaps.LungNetwork, every: Sequence[data.Case], role: str
) -> Figures:
    """
    The Dice that training on all images and masks gains over training on the permitted ones.

    Set by set, then over all sets of `engine.CONVENTION`, which both networks know: what the rule is judged on.
    """
    found: Figures = []
    together: list[tuple[overlaps.Overlaps, overlaps.Overlaps]] = []
    pooled: list[data.Case] = []
    suffix = f"against licensed {licensed.card.version}"
    for on, origin, cases in overlaps.lung_sets(every, role):
        mine = overlaps.overlaps(ours, cases, origin, on)
        theirs = overlaps.overlaps(licensed, cases, origin, f"{on}, licensed")
        found += overlaps.gain_figures(mine, theirs, cases, f"{on}, {suffix}", LICENSED)
        if data.CONVENTION_OF[origin] == CONVENTION:
            together.append((mine, theirs))
            pooled += cases
    mine, theirs = (overlaps.joined([row[i] for row in together]) for i in (0, 1))
    return found + overlaps.gain_figures(mine, theirs, pooled, f"{RULE_ON}, {suffix}", LICENSED)


def draw(arguments: argparse.Namespace, ours: overlaps.Segmenter, every: Sequence[data.Case]) -> None:
    """The contact sheet and the outlines of severely ill lungs, from the worst to the best."""
    baseline = overlaps.LungNetwork(arguments.weights, overlaps.BASELINE)
    on, origin, cases = next(s for s in overlaps.lung_sets(every, arguments.role) if DRAWN[arguments.role] in s[0])
    rows = lung_sheet.shown((ours, baseline), cases, origin)
    if arguments.sheet:
        lung_sheet.contact_sheet(rows).save(arguments.sheet)
        Console().print(f"{arguments.sheet}: shows radiographs, keep it out of the repository")
    if arguments.outlines:
        title = f"{on}, chosen by the optimised network's Dice"
        arguments.outlines.write_text(lung_sheet.outline_drawing(rows, title), encoding="utf-8")


def write_down(path: Path, ours: overlaps.LungNetwork, found: Mapping[str, Figures]) -> None:
    """One line of the ledger for one look at the external lungs."""
    look = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "lung-study",
        "classifier": asdict(ModelIdentity("none", "", "", "")),
        "segmenter": asdict(ours.identity),
        "figures": [
            [f["what"], f"{f['on']}, {name}", f["value"], f["low"], f["high"], f["n"]]
            for name, figures in found.items()
            for f in figures
        ],
    }
    ledger.append(path, look)
