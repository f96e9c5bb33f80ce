"""Which rollout a site is really in: what its settings say, unless an open drift alarm holds it in shadow."""

from __future__ import annotations

from triage.postgres.connect import Db
from triage.postgres.drift_reports import has_fallen_back
from triage.postgres.site_rules import SiteRules

SHADOW = "shadow"


def in_force(db: Db, rules: SiteRules, site: str) -> str:
    """shadow, show or reorder, as it stands at this moment."""
    if rules.rollout == SHADOW or has_fallen_back(db, site):
        return SHADOW
    return rules.rollout
