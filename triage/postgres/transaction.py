"""One transaction, begun again where PostgreSQL broke it off for the sake of another."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from psycopg.errors import DeadlockDetected, SerializationFailure

from triage.postgres.connect import Db, Pool

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

BROKEN_OFF = (DeadlockDetected, SerializationFailure)
PAUSES_S = (0.05, 0.1)
"""Before the second and the third try, at most: drawn anew each time, so that two that met once do not meet again."""


def in_one_transaction(pool: Pool, act: Callable[Concatenate[Db, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
    """
    Run *act* in one transaction, at most three times: what a broken-off try did was rolled back.

    *act* holds nothing outside the database, so that it may start over.
    """
    for pause in PAUSES_S:
        try:
            return _once(pool, act, *args, **kwargs)
        except BROKEN_OFF as fault:
            log.warning("transaction broken off (%s), begun again", type(fault).__name__)
        time.sleep(random.uniform(0, pause))
    return _once(pool, act, *args, **kwargs)


def _once(pool: Pool, act: Callable[Concatenate[Db, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
    with pool.connection() as db, db.transaction():
        return act(db, *args, **kwargs)
