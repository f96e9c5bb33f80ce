"""The protocol of a reader study: who meets which case when, with or without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Modality(StrEnum):
    """Whether the reader sees what the model says."""

    WITHOUT = "without"
    WITH = "with"

    @property
    def other(self) -> Modality:
        """The one that the same case is read in next time."""
        return Modality.WITH if self is Modality.WITHOUT else Modality.WITHOUT


@dataclass(frozen=True)
class Showing:
    """One case as one reader meets it once."""

    case_id: str
    modality: Modality
    session: int


Order = tuple[Showing, ...]
"""Everything one reader is to read, over all sessions, in the order of reading."""

ARMS = ((0, Modality.WITHOUT), (0, Modality.WITH), (1, Modality.WITHOUT), (1, Modality.WITH))
"""Which block of cases a reader begins with, and how it is read first."""


def plan(classes: Mapping[str, str], readers: Sequence[str], seed: int, *, is_crossed: bool = True) -> dict[str, Order]:
    """
    The order of every reader.

    Fully crossed: the cases are parted into two blocks, each class evenly. A reader's first session holds one block
    in one modality, then the other block in the other; the second session the same blocks with the modalities
    exchanged. The readers are dealt to four arms, so that half begin without the model, and that in either session
    each case is read by half of them with it (as far as the number of readers allows). Within a block every reader has
    an order of their own, drawn anew for the second session.

    Args:
        classes: by case, the truth; used to part the classes evenly and for nothing else.
        is_crossed: otherwise one session, without the model.
    """
    cases = sorted(classes)
    if not is_crossed:
        return {
            reader: _drawn(cases, Modality.WITHOUT, 1, np.random.default_rng([seed, 1, number]))
            for number, reader in enumerate(readers)
        }
    blocks = _blocks(classes, np.random.default_rng([seed, 0]))
    dealt = np.random.default_rng([seed, 2]).permutation(len(readers))
    return {
        reader: _crossed(blocks, ARMS[dealt[number] % len(ARMS)], np.random.default_rng([seed, 1, number]))
        for number, reader in enumerate(readers)
    }


def _blocks(classes: Mapping[str, str], rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Two halves of the cases: in size, and within each class, at most one case apart."""
    shuffled = [sorted(classes)[i] for i in rng.permutation(len(classes))]
    by_class = sorted(shuffled, key=lambda case: classes[case])
    return by_class[::2], by_class[1::2]


def _crossed(blocks: tuple[list[str], list[str]], arm: tuple[int, Modality], rng: np.random.Generator) -> Order:
    first, modality = arm
    begun, ended = blocks[first], blocks[1 - first]
    return (
        *_drawn(begun, modality, 1, rng),
        *_drawn(ended, modality.other, 1, rng),
        *_drawn(begun, modality.other, 2, rng),
        *_drawn(ended, modality, 2, rng),
    )


def _drawn(cases: Sequence[str], modality: Modality, session: int, rng: np.random.Generator) -> Order:
    return tuple(Showing(cases[i], modality, session) for i in rng.permutation(len(cases)))
