"""`python -m models`: train and evaluate the networks."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from models.engine import WEIGHTS, Engine
from models.training import data, loop

LEARNING_RATES = {"lungs": 1e-3, "chest": 6e-4}


def main() -> None:
    """Read the command line and run one subcommand."""
    arguments = _parser().parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train one network").add_subparsers(required=True)
    for name, run in (("lungs", train_lungs), ("chest", train_chest)):
        command = train.add_parser(name)
        _add_cxr(command)
        command.add_argument("--out", type=Path, required=True, help="folder for checkpoint, weights and card")
        command.add_argument("--weights-from", type=Path, help="ImageNet mobilenetv2_100 weights to start from")
        command.add_argument("--budget-minutes", type=float, required=True)
        command.add_argument("--steps", type=int, default=1500, help="steps, where the budget allows as many")
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
        if name == "chest":
            command.add_argument("--lungs", type=Path, default=WEIGHTS, help="folder of the lung weights")
        command.set_defaults(run=run)
    command = commands.add_parser("evaluate", help="recompute the cards' figures from stored weights")
    _add_cxr(command)
    command.add_argument("--role", choices=("dev", "external"), default="dev")
    command.add_argument("--weights", type=Path, default=WEIGHTS)
    command.add_argument("--write", action="store_true", help="put the figures into the cards")
    command.set_defaults(run=evaluate_shipped)
    return parser


def _add_cxr(command: argparse.ArgumentParser) -> None:
    default = os.environ.get("TRIAGE_CXR")
    command.add_argument(
        "--cxr",
        type=Path,
        default=Path(default) if default else None,
        required=default is None,
        help="folder of radiographs with manifest.csv (default: $TRIAGE_CXR)",
    )


def _plan(arguments: argparse.Namespace, name: str) -> loop.Plan:
    arguments.out.mkdir(parents=True, exist_ok=True)
    return loop.Plan(
        steps=arguments.steps,
        budget_minutes=arguments.budget_minutes,
        seed=arguments.seed,
        checkpoint=arguments.out / f"{name}.checkpoint.safetensors",
        resume=arguments.resume,
        learning_rate=LEARNING_RATES[name],
    )


def train_lungs(arguments: argparse.Namespace) -> None:
    """Train the lung U-Net and write it with its card."""
    from models.training import cards, lungs

    cases = data.lung_cases(data.read_manifest(arguments.cxr))
    plan = _plan(arguments, "lungs")
    net = lungs.train(cases, plan, arguments.weights_from)
    cards.ship_lungs(net, cases, arguments.out, _how(arguments, plan))


def train_chest(arguments: argparse.Namespace) -> None:
    """Train the classifier on the crops of the lungs in --lungs, calibrate it and write it with its card."""
    from models.training import cards, chest

    every = data.read_manifest(arguments.cxr)
    cases, held_out = data.chest_cases(every, held_out=False), data.chest_cases(every, held_out=True)
    plan = _plan(arguments, "chest")
    net = chest.train(cases, held_out, plan, arguments.lungs, arguments.weights_from)
    for end in ("json", "safetensors"):
        if arguments.lungs != arguments.out:
            shutil.copyfile(arguments.lungs / f"lungs.{end}", arguments.out / f"lungs.{end}")
    cards.ship_chest(net, cases, held_out, arguments.out, _how(arguments, plan))


def evaluate_shipped(arguments: argparse.Namespace) -> None:
    """Print the figures of the weights in --weights; with --write, put them into their cards."""
    from models.training import cards, evaluate

    every = data.read_manifest(arguments.cxr)
    engine = Engine.load(arguments.weights, threads=arguments.threads)
    external = arguments.role == "external"
    cases = data.external_cases(every) if external else data.chest_cases(every, held_out=True)
    on = "external" if external else "development fold 0"
    found = evaluate.chest_figures(engine, cases, evaluate.readings(engine, cases, on), on)
    lungs = [
        f
        for name, o, some in evaluate.lung_sets(every, arguments.role)
        for f in evaluate.lung_figures(engine, some, o, name)
    ]
    if not external:
        limit = engine.cards["chest"].gate_limit or float("inf")
        children = [c for c in every if c.source == "kermany"][::8]
        found += evaluate.refusals(evaluate.readings(engine, children, "children"), limit, "kermany, children")
        found += evaluate.spoilt_figures(engine, cases[::3])
    for name, figures in (("lungs", lungs), ("chest", found)):
        known = engine.cards[name].performance
        _show(f"{name} {engine.cards[name].version}", figures, known)
        if arguments.write:
            mine = {(f["what"], f["on"]) for f in figures}
            kept = [dict(f) for f in known if (f["what"], f["on"]) not in mine]
            cards.with_figures(arguments.weights, name, kept + figures)


def _show(title: str, figures: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]]) -> None:
    """A table of *figures*; those that differ from the card's are marked."""
    of_card = {(f["what"], f["on"]): f["value"] for f in known}
    table = Table("figure", "on", "value", "95 % interval", "n", "card", title=title)
    for f in figures:
        value, low, high = ("-" if f[k] is None else f"{f[k]:.3f}" for k in ("value", "low", "high"))
        before = of_card.get((f["what"], f["on"]))
        said = "" if before is None else "same" if abs(before - (f["value"] or 0)) < 0.005 else f"{before:.3f}"
        table.add_row(f["what"], f["on"], value, f"{low} - {high}", str(f["n"]), said)
    Console(width=150).print(table)


def _how(arguments: argparse.Namespace, plan: loop.Plan) -> dict[str, Any]:
    """What the card says of the training run."""
    steps, spent_s = loop.progress_of(plan.checkpoint)
    return {
        "seed": arguments.seed,
        "budget_minutes": arguments.budget_minutes,
        "took_minutes": round(spent_s / 60, 1),
        "steps": steps,
        "started_from": arguments.weights_from.name if arguments.weights_from else "random weights",
    }


if __name__ == "__main__":
    main()
