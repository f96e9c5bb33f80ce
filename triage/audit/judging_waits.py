"""Waits by what the AI said and by what was true, beside first come first read over the site's own openings."""

from __future__ import annotations

from typing import Any

import numpy as np

from triage.audit import replay, waits
from triage.audit.cases import CLASSES, COVID
from triage.audit.evidence import Evidence

HORIZON_S = 24 * 3600.0
AI_NAMES = ("not flagged", "flagged")


def waiting_section(evidence: Evidence) -> dict[str, Any] | None:
    """None where nothing was read yet."""
    given = evidence.waits
    if given is None or not np.isfinite(given.opened).any():
        return None
    came = np.isfinite(given.eligible) & ~(given.opened < given.eligible)
    arrived, opened = given.eligible[came], given.opened[came]
    flagged = given.is_flagged[came]
    covid = given.truth[came] == COVID
    groups = [
        waits.Group("all", "all studies", np.ones(len(arrived), dtype=bool)),
        *(waits.Group("AI", name, flagged == bool(i)) for i, name in enumerate(AI_NAMES)),
        *(waits.Group("true class", name, given.truth[came] == k) for k, name in enumerate(CLASSES)),
        waits.Group("true class", "COVID that the AI missed", covid & ~flagged),
    ]
    as_of = float(max(np.nanmax(arrived), np.nanmax(opened)))
    compared = replay.replayed(
        arrived,
        opened,
        replay.first_come(arrived, opened),
        as_of=as_of,
        day=np.floor(arrived / 86400),
        groups=[g for g in groups if g.rows.any()],
        horizon=HORIZON_S,
        draws=200,
        seed=evidence.rules.seed,
    )
    return {
        "compared_with": "first come, first read: the same arrivals and openings in another order",
        "groups": [
            {
                "kind": one.kind,
                "name": one.name,
                "studies": one.real.studies,
                "unread": one.real.unread,
                **{f"real_{k}_s": getattr(one.real, k) for k in ("median", "p90", "p99", "longest")},
                "mean_s": one.real.restricted_mean,
                "first_come_mean_s": one.other.restricted_mean,
                "saving_s": one.restricted_saving,
            }
            for one in compared
        ],
    }
