"""What a site decides about its worklist."""

from __future__ import annotations

from dataclasses import dataclass, field

from triage.domain.priority import PriorityPolicy


@dataclass(frozen=True)
class SiteRules:
    """What a site decides: waits and share, which local codes mean a chest radiograph, rollout, destinations."""

    policy: PriorityPolicy = field(default_factory=PriorityPolicy)
    chest_codes: frozenset[str] = frozenset()
    rollout: str = "show"
    """shadow: recorded only; show: visible, order unchanged; reorder: flags move studies forward."""
    destinations: tuple[str, ...] = ()
