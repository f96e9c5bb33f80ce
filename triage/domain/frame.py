"""Many rows as columns: what the audit is handed a million at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Frame:
    """
    Columns of the same rows.

    Attributes:
        columns: name to (n, ...) array.
        words: what the codes of a column stand for that was text.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    words: Mapping[str, Mapping[int, str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.columns[name]

    def texts(self, name: str) -> npt.NDArray[np.str_]:
        """(n,) the words of a column of codes."""
        codes, inverse = np.unique(self.columns[name], return_inverse=True)
        return np.array([self.words[name].get(int(c), "") for c in codes] or [""], dtype=str)[inverse]
