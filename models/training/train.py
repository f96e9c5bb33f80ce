"""`train lungs` and `train chest`; a network's own module takes over as soon as it has an `add_command`."""

from __future__ import annotations

import argparse

from models.training import chest, data, lungs
from models.training.commands import Commands, add, add_training, how, plan_of

LEARNING_RATES = {"lungs": 1e-3, "chest": 6e-4}


def add_command(commands: Commands) -> None:
    """`train lungs | chest`."""
    networks = commands.add_parser("train", help="train one network").add_subparsers(required=True)
    for module, add_own in ((lungs, _add_lungs), (chest, _add_chest)):
        getattr(module, "add_command", add_own)(networks)


def _add_lungs(commands: Commands) -> None:
    add_training(add(commands, "lungs", "train the lung U-Net and write it with its card", train_lungs))


def _add_chest(commands: Commands) -> None:
    command = add(commands, "chest", "train the classifier, calibrate it and write it with its card", train_chest)
    add_training(command)
    chest.add_options(command)


def train_lungs(arguments: argparse.Namespace) -> None:
    """Train the lung U-Net and write it with its card."""
    from models.training import cards

    cases = data.lung_cases(data.read_manifest(arguments.cxr))
    plan = plan_of(arguments, "lungs", LEARNING_RATES["lungs"])
    net = lungs.train(cases, plan, arguments.weights_from)
    cards.ship_lungs(net, cases, arguments.out, how(arguments, plan))


def train_chest(arguments: argparse.Namespace) -> None:
    """Train the classifier on the crops of the lungs in --lungs, calibrate it and write it with its card."""
    plan = plan_of(arguments, "chest", LEARNING_RATES["chest"])
    chest.run(arguments, plan, lambda: how(arguments, plan))
