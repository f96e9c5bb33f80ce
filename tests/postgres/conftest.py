"""The ward: a Book on a fresh database."""

from __future__ import annotations

import pytest

from tests.postgres.ward import Ward, ward_on
from triage.postgres.connect import Pool


@pytest.fixture
def ward(pool: Pool) -> Ward:
    """A ward on a fresh database."""
    return ward_on(pool)
