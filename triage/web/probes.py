"""What a cluster asks: is it alive, is it ready, how is it doing. No patient data, no sign-in."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from psycopg_pool import PoolTimeout

from triage.web.desk import AtDesk, Desk

router = APIRouter(tags=["probes"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
def readyz(desk: AtDesk, response: Response) -> dict[str, str]:
    """The database answers."""
    try:
        with desk.book.pool.connection(timeout=2) as db:
            db.execute("SELECT 1")
    except (psycopg.Error, PoolTimeout):
        response.status_code = 503
        return {"status": "the database does not answer"}
    return {"status": "ready"}


@router.get("/metrics")
def metrics(desk: AtDesk) -> Response:
    """Counts by state, for Prometheus."""
    registry = CollectorRegistry()
    registry.register(Counts(desk))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class Counts(Collector):
    """The book's overview as gauges, read when asked."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: registering must not ask the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Entries, messages and deliveries by state; seconds since each peer was swept."""
        overview = self.desk.book.overview(self.desk.site)
        entries = GaugeMetricFamily("triage_entries", "worklist entries by state", labels=["ai_state", "reading_state"])
        for row in overview["entries"]:
            entries.add_metric([row["ai_state"], row["reading_state"]], row["entries"])
        messages = GaugeMetricFamily("triage_messages", "inbound messages by outcome", labels=["protocol", "outcome"])
        for row in overview["messages"]:
            messages.add_metric([row["protocol"], row["outcome"]], row["messages"])
        deliveries = GaugeMetricFamily("triage_deliveries", "deliveries by state", labels=["destination", "state"])
        for row in overview["deliveries"]:
            deliveries.add_metric([row["destination"], row["state"]], row["deliveries"])
        swept = GaugeMetricFamily("triage_peer_swept_seconds", "seconds since the peer was swept", labels=["peer"])
        failing = GaugeMetricFamily("triage_peer_failing", "1 while the last sweep did not finish", labels=["peer"])
        for row in overview["peers"]:
            swept.add_metric([row["peer"]], (self.desk.clock() - row["swept_at"]).total_seconds())
            failing.add_metric([row["peer"]], float(bool(row["failure"])))
        return [entries, messages, deliveries, swept, failing]
