"""Inbound messages: stored raw before they are acknowledged, with what became of each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from triage.ports import Envelope, KeptMessage
from triage.postgres.connect import Db

KEEP = """
    INSERT INTO inbound_message (site, peer, protocol, sender, control_id, kind, body, body_sha256, attempts)
    VALUES (%(site)s, %(peer)s, %(protocol)s, %(sender)s, %(control_id)s, %(kind)s, %(body)s, %(sha256)s, 1)
    ON CONFLICT (site, protocol, sender, control_id, body_sha256)
    DO UPDATE SET repeats = inbound_message.repeats + 1
    RETURNING id, outcome, reason, (xmax = 0) AS is_new
"""


def keep(db: Db, envelope: Envelope, body: bytes) -> KeptMessage:
    """
    Store *body*, or count a repeat of it.

    A repeat is the same sender, control id and bytes: senders reuse control ids for other content, which is new.
    """
    row = db.execute(
        KEEP,
        {
            **{name: storable(value) for name, value in vars(envelope).items()},
            "body": body,
            "sha256": hashlib.sha256(body).digest(),
        },
    ).fetchone()
    assert row is not None
    return KeptMessage(row["id"], row["outcome"], row["reason"], row["is_new"], body, envelope)


def storable(text: str) -> str:
    """What PostgreSQL accepts as text: a broken sender's NUL bytes and undecodable bytes stay in the body alone."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def lock(db: Db, message_id: int) -> None:
    """Hold a stored message before its orders, as `keep` does: a repeat of it may come meanwhile."""
    db.execute("SELECT id FROM inbound_message WHERE id = %s FOR NO KEY UPDATE", (message_id,))


SETTLE = "UPDATE inbound_message SET outcome = %s, reason = %s, settled_at = clock_timestamp() WHERE id = %s"


def settle(db: Db, message_id: int, outcome: str, reason: str = "") -> None:
    """Say what became of a message; *reason* names segment and field, never content."""
    db.execute(SETTLE, (outcome, storable(reason)[:500], message_id))


FOR_REPLAY = """
    UPDATE inbound_message SET attempts = attempts + 1 WHERE id = %s
    RETURNING id, site, peer, protocol, sender, control_id, kind, outcome, reason, body
"""


def for_replay(db: Db, message_id: int) -> KeptMessage | None:
    """The stored bytes of one message, counted as tried again."""
    row = db.execute(FOR_REPLAY, (message_id,)).fetchone()
    if row is None:
        return None
    envelope = Envelope(**{name: row[name] for name in ("site", "peer", "protocol", "sender", "control_id", "kind")})
    return KeptMessage(row["id"], row["outcome"], row["reason"], False, bytes(row["body"]), envelope)


STUCK = """
    SELECT id, site, peer, protocol, kind, received_at, outcome, reason, repeats, attempts, octet_length(body) AS bytes
      FROM inbound_message WHERE outcome = ANY(%s) ORDER BY id DESC LIMIT %s
"""


def listed(db: Db, outcomes: Sequence[str], limit: int = 100) -> list[dict[str, Any]]:
    """Messages with one of *outcomes*, newest first, without their bodies."""
    return db.execute(STUCK, (list(outcomes), limit)).fetchall()
