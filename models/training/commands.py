"""What the training commands' options have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from models.training import loop

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_command` of each module adds its command to."""


def add(commands: Commands, name: str, help: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
    """A command that calls *run* with its arguments."""
    command = commands.add_parser(name, help=help, description=help)
    command.set_defaults(run=run)
    return command


def add_cxr(command: argparse.ArgumentParser) -> None:
    """The folder of radiographs."""
    default = os.environ.get("TRIAGE_CXR")
    command.add_argument(
        "--cxr",
        type=Path,
        default=Path(default) if default else None,
        required=default is None,
        help="folder of radiographs with manifest.csv (default: $TRIAGE_CXR)",
    )


def add_training(command: argparse.ArgumentParser) -> None:
    """What every training run is told."""
    add_cxr(command)
    command.add_argument("--out", type=Path, required=True, help="folder for checkpoint, weights and card")
    command.add_argument("--weights-from", type=Path, help="ImageNet mobilenetv2_100 weights to start from")
    command.add_argument("--budget-minutes", type=float, required=True)
    command.add_argument("--steps", type=int, default=1500, help="steps, where the budget allows as many")
    command.add_argument("--version", default="0.3.0", help="what the card calls the weights")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")


def plan_of(arguments: argparse.Namespace, name: str, learning_rate: float) -> loop.Plan:
    """The plan that the options of `add_training` ask for."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    return loop.Plan(
        steps=arguments.steps,
        budget_minutes=arguments.budget_minutes,
        seed=arguments.seed,
        checkpoint=arguments.out / f"{name}.checkpoint.safetensors",
        resume=arguments.resume,
        learning_rate=learning_rate,
    )


def how(arguments: argparse.Namespace, plan: loop.Plan) -> dict[str, Any]:
    """What the card says of the training run."""
    steps, spent_s = loop.progress_of(plan.checkpoint)
    return {
        "version": arguments.version,
        "seed": arguments.seed,
        "budget_minutes": arguments.budget_minutes,
        "took_minutes": round(spent_s / 60, 1),
        "steps": steps,
        "started_from": arguments.weights_from.name if arguments.weights_from else "random weights",
    }
