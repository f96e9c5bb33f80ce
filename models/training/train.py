"""`train lungs` and `train chest`: the options of every training here, those of one network in its own module."""

from __future__ import annotations

import argparse
from functools import partial

from models.training import chest, lungs
from models.training.commands import Commands, add, add_training, how, plan_of
from models.training.recipe import Recipe

LEARNING_RATES = {"lungs": lungs.Settings.learning_rate, "chest": Recipe.learning_rate}


def add_command(commands: Commands) -> None:
    """`train lungs | chest`."""
    networks = commands.add_parser("train", help="train one network").add_subparsers(required=True)
    command = add(networks, "lungs", "train the lung U-Net and write it with its card", train_lungs)
    add_training(command)
    lungs.add_options(command)
    command = add(networks, "chest", "train the classifier, calibrate it and write it with its card", train_chest)
    add_training(command)
    chest.add_options(command)


def train_lungs(arguments: argparse.Namespace) -> None:
    """Train the lung U-Net and write it with its card."""
    plan = plan_of(arguments, "lungs", LEARNING_RATES["lungs"])
    lungs.run(arguments, plan, partial(how, arguments))


def train_chest(arguments: argparse.Namespace) -> None:
    """Train the classifier and write it with its card."""
    plan = plan_of(arguments, "chest", LEARNING_RATES["chest"])
    chest.run(arguments, plan, partial(how, arguments, plan))
