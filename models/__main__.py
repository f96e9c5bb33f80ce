"""`python -m models`: train, tune, evaluate and run the networks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

COMMANDS = {
    "train": ("models.training.train", "train one network: lungs or chest"),
    "tune": ("models.training.tune", "search the lung network's architecture"),
    "experiments": ("models.training.experiments", "ablations, leave-one-source-out, source probe"),
    "calibrate": ("models.training.unseen", "refit the classifier's calibration on sources left out"),
    "source-probe": ("models.training.source_probe", "try to read the source from the embedding"),
    "gates": ("models.training.gate_study", "measure what the gates refuse"),
    "evaluate": ("models.training.evaluate", "recompute the cards' figures from stored weights"),
    "external-validation": ("models.training.external", "run the shipped engine on the external role"),
    "lung-study": ("models.training.lung_study", "measure and draw the lung networks alone"),
    "lung-page": ("models.training.lung_page", "write the page of the lung networks from their cards"),
    "card": ("models.training.card_page", "render the model cards as pages"),
    "predict": ("models.predict", "run the shipped networks on a folder of radiographs"),
}
"""Each command: the module whose `add_command(commands)` adds it, and what it is for."""


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and run one command."""
    words = sys.argv[1:] if words is None else words
    arguments = _parser(words).parse_args(words)

    import torch

    torch.set_num_threads(arguments.threads)
    arguments.run(arguments)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Every command is listed; only the one among *words* is imported, for the networks take seconds to load."""
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="processor threads for the networks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    wanted = next((w for w in words if w in COMMANDS), None)
    for name, (module, purpose) in COMMANDS.items():
        if name == wanted:
            import_module(module).add_command(commands)
        elif find_spec(module) is not None:
            commands.add_parser(name, help=purpose)
    return parser


if __name__ == "__main__":
    main()
