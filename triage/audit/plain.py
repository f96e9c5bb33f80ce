"""Results as plain JSON that is the same on every machine: six digits, no infinity, no number that is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from math import isfinite
from typing import Any

import numpy as np

DIGITS = 6
"""Significant digits: sums in another order differ after the twelfth or so."""


def plain(value: Any) -> Any:
    """Dataclasses and mappings as dictionaries, arrays as lists, NaN and infinity as null."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.repr}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return value


def to_json(value: Any) -> str:
    """The text that is stored, hashed and sent."""
    return json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
