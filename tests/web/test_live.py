"""Live push: what happens to the worklist reaches an open page."""

from __future__ import annotations

import asyncio
import time

from tests.web.conftest import Room
from triage.web.live import Live


def _wait_until(live: Live, more_than: int) -> None:
    end = time.monotonic() + 5
    while live.changes <= more_than:
        assert time.monotonic() < end, "no announcement came"
        time.sleep(0.02)


def test_every_change_is_announced_and_a_stream_ends_with_the_service(room: Room) -> None:
    live = Live(str(room.book.pool.conninfo), "main")

    async def first_and_last() -> list[str]:
        stream = live.events()
        said = [await anext(stream), await anext(stream)]
        live.stop()
        return [*said, *[event async for event in stream]]

    live.start()
    try:
        _wait_until(live, 0)
        before = live.changes
        room.arrive(1)
        _wait_until(live, before)
        said = asyncio.run(first_and_last())
    finally:
        live.stop()
    assert said[0].startswith("retry:")
    assert said[1].startswith("event: changed")
    assert len(said) == 2


def test_another_sites_changes_are_not_ours(room: Room) -> None:
    live = Live(str(room.book.pool.conninfo), "elsewhere")
    live.start()
    try:
        _wait_until(live, 0)
        before = live.changes
        room.arrive(1)
        time.sleep(0.7)
        assert live.changes == before
    finally:
        live.stop()
