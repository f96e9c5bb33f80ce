"""Celery's view: tasks say "there is work" and carry nothing more; running one twice changes nothing."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from celery import Celery, signals
from celery.schedules import crontab

from triage import telemetry
from triage.domain.errors import Misconfigured, Unavailable
from triage.intake import sweep_archive as sweep_the_archive
from triage.intake import sweep_orders as sweep_the_orders
from triage.postgres.sweeps import alone
from triage.quality import draw_sample
from triage.quality import report as judge_site
from triage.quality import send_reports as offer_reports
from triage.reporting import deliver_due
from triage.settings import Settings
from triage.wiring import Service, now

log = logging.getLogger(__name__)

NIGHTLY = crontab(hour="2", minute="15")
"""When a site is judged, in UTC."""
LONGEST_TURN_S = 30
"""A task works this long before it gives way to others of its queue and asks for another turn."""


def celery_options(settings: Settings) -> dict[str, Any]:
    """
    Celery's configuration for a broker URL, or for a folder of the machine's own where there is none.

    With neither, only what needs no broker works: `require_broker` is what the long-lived roles call first.
    """
    every = settings.sweep_every_s
    options: dict[str, Any] = {
        "task_ignore_result": True,
        "task_default_queue": "sweep",
        "task_routes": {"assess": {"queue": "assess"}, "deliver": {"queue": "deliver"}},
        "task_store_eager_result": False,
        "task_time_limit": 300,
        "task_send_sent_event": False,
        "worker_hijack_root_logger": False,
        "worker_prefetch_multiplier": 4,
        "worker_max_tasks_per_child": None,
        "broker_connection_retry_on_startup": True,
        "timezone": "UTC",
        "beat_schedule": {
            name: {"task": name, "schedule": seconds, "options": {"expires": max(2.0, seconds)}}
            for name, seconds in {
                "sweep_archive": every,
                "sweep_orders": every,
                "assess": 5.0,
                "deliver": 5.0,
                "offer_expired": 15.0,
                "send_reports": 60.0,
            }.items()
        }
        | {"audit": {"task": "audit", "schedule": NIGHTLY, "options": {"expires": 3600}}},
    }
    if settings.broker_url:
        return {**options, "broker_url": settings.broker_url}
    if settings.broker_folder is None:
        return options
    queue, control = settings.broker_folder / "queue", settings.broker_folder / "control"
    for folder in (queue, control):
        folder.mkdir(parents=True, exist_ok=True)
    transport = {
        "data_folder_in": str(queue),
        "data_folder_out": str(queue),
        "control_folder": str(control),
        "polling_interval": 0.1,
    }
    return {**options, "broker_url": "filesystem://", "broker_transport_options": transport}


def require_broker(settings: Settings) -> None:
    """
    Stop a role that could never hear of work.

    Raises:
        Misconfigured: no broker is set.
    """
    if not settings.broker_url and settings.broker_folder is None:
        raise Misconfigured("set TRIAGE_BROKER_URL (Redis, RabbitMQ) or TRIAGE_BROKER_FOLDER")


@cache
def service() -> Service:
    """This process's parts; built in the worker's child, after the fork."""
    return Service(Settings.from_env(os.environ))


def make_app(env: Mapping[str, str]) -> Celery:
    """The Celery application of *env*."""
    made = Celery("triage")
    made.conf.update(celery_options(Settings.from_env(env)))
    return made


app = make_app(os.environ)


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    telemetry.configure(Settings.from_env(os.environ).log_level)


@app.task(name="assess")
def assess() -> None:
    """Assess what is ready, most urgent first; then ask for deliveries, and for another turn if there is more."""
    own = service()
    if not own.settings.model_enabled:
        return
    until = time.monotonic() + LONGEST_TURN_S
    while done := own.assessor.assess_ready(own.settings.batch):
        if own.destinations:
            deliver.apply_async(expires=60)
        if done and time.monotonic() > until:
            assess.apply_async(expires=60)
            return


@app.task(name="deliver")
def deliver() -> None:
    """Deliver what is due."""
    own = service()
    with alone(own.pool, "deliver") as may:  # the others go on sweeping while a slow peer takes its time
        until = time.monotonic() + LONGEST_TURN_S
        while may and deliver_due(20, destinations=own.destinations, book=own.book) and time.monotonic() < until:
            pass


@app.task(name="sweep_archive")
def sweep_archive() -> None:
    """Look for new images; a sweep still running elsewhere makes this one unnecessary."""
    own = service()
    with alone(own.pool, f"sweep {own.settings.site} archive") as may:
        if not may:
            return
        try:
            news = sweep_the_archive(
                archive=own.archive, book=own.book, site=own.settings.site, clock=now, rules=own.sweep_rules
            )
        except Unavailable as why:
            log.warning("sweep of the archive: %s", why)
            return
        files = getattr(own.archive, "unreadable", None)
        if files is not None:
            own.book.note_unreadable(own.settings.site, own.archive.name, files())
    if news:
        assess.apply_async(countdown=own.settings.settle.total_seconds() + 0.05, expires=300)


@app.task(name="sweep_orders")
def sweep_orders() -> None:
    """Look for new and changed orders in the EHR."""
    own = service()
    if own.ehr_orders is None:
        return
    with alone(own.pool, f"sweep {own.settings.site} orders") as may:
        if not may:
            return
        try:
            sweep_the_orders(
                ehr=own.ehr_orders,
                book=own.book,
                site=own.settings.site,
                clock=now,
                overlap=own.settings.fhir_overlap,
                lookback=own.settings.fhir_lookback,
                read=own.read_fhir,
            )
        except Unavailable as why:
            log.warning("sweep of the orders: %s", why)


@app.task(name="offer_expired")
def offer_expired() -> None:
    """Offer again what crashed workers held."""
    own = service()
    if own.book.offer_expired():
        assess.apply_async(expires=60)
    if own.book.offer_expired_deliveries():
        deliver.apply_async(expires=60)


@app.task(name="audit")
def audit() -> None:
    """Draw the random sample of the last week and judge the site as known now."""
    own = service()
    with alone(own.pool, f"audit {own.settings.site}") as may:
        if not may:
            return
        at = now()
        draw_sample(own.audit, at)
        report_id, _, found = judge_site(own.audit, at)
        log.info("drift report %d: external %s, change %s", report_id, found.external, found.change)


@app.task(name="send_reports")
def send_reports() -> None:
    """Offer the webhook every report it has not taken yet."""
    own = service()
    if own.webhook is None:
        return
    with alone(own.pool, f"send reports {own.settings.site}") as may:
        if may:
            offer_reports(own.audit, own.webhook.send)
