"""The four states a verdict can have."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What a report says of a figure; INSUFFICIENT is neither good nor bad news."""

    IN_CONTROL = "IN CONTROL"
    WATCH = "WATCH"
    ALARM = "ALARM"
    INSUFFICIENT = "INSUFFICIENT"
