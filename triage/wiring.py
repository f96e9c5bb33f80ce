"""The one place where ports meet adapters: what the settings name is built here, on first use, once a process."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg

from integrations.dicomweb.archive import DicomwebArchive
from integrations.dicomweb.folder import FolderArchive
from integrations.fhir.client import BearerToken, FhirOrders, FhirReports, FhirServer
from integrations.fhir.orders import from_document
from integrations.fhir.site import FhirSite
from integrations.webhook import Webhook
from models import card as cards
from triage import quality
from triage.assessment import Assessor
from triage.audit.evidence import AuditRules, Model
from triage.domain.errors import Conflict, Misconfigured, Unavailable
from triage.domain.finding import ChestClass
from triage.domain.order import OrderEvent
from triage.intake import SweepRules, readers_by_protocol
from triage.listener import Hl7Listener
from triage.ports import Archive, KeptMessage, Reports
from triage.postgres.book import Book, SiteRules
from triage.postgres.connect import Pool, open_pool
from triage.settings import Settings

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

    from models.engine import Engine
    from triage.web.desk import ModelWords

NETWORKS = ("lungs", "chest")
"""The networks of a set of weights; each has a card (.json) and weights (.safetensors)."""
EHR = "ehr"
"""The name of the FHIR server as a destination of results and a source of orders."""


def now() -> datetime:
    """The clock of every use case: aware, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Service:
    """Everything one process of the service may need; nothing is opened before it is asked for."""

    settings: Settings

    @cached_property
    def pool(self) -> Pool:
        """Connections to PostgreSQL."""
        if not self.settings.database_url:
            raise Misconfigured("TRIAGE_DATABASE_URL is not set (the demo sets it to its embedded server)")
        return open_pool(self.settings.database_url, size=12)

    def close(self) -> None:
        """Give back the connections, where any were opened."""
        opened: Pool | None = self.__dict__.get("pool")
        if opened is not None:
            opened.close()

    @cached_property
    def book(self) -> Book:
        """What is remembered."""
        return Book(
            self.pool,
            SiteRules(
                policy=self.settings.policy,
                chest_codes=self.settings.chest_codes,
                rollout=self.settings.rollout,
                destinations=(EHR,) if self.settings.fhir_url else (),
            ),
        )

    @cached_property
    def archive(self) -> Archive:
        """
        Where images are.

        Raises:
            Misconfigured: neither an archive URL nor a folder is set.
        """
        s = self.settings
        if s.archive_url:
            return DicomwebArchive(
                s.archive_url,
                name="archive",
                site_zone=s.zone,
                user=s.archive_user,
                password=s.archive_password,
                token=s.archive_token,
            )
        if s.archive_folder is None:
            raise Misconfigured("set TRIAGE_ARCHIVE_URL (a DICOMweb server) or TRIAGE_ARCHIVE_FOLDER")
        # a file renamed into place is whole at once; one being copied may grow for as long as images settle
        settle_s = min(1.0, s.settle.total_seconds())
        return FolderArchive(s.archive_folder, name="archive", site_zone=s.zone, settle_s=settle_s)

    @property
    def sweep_rules(self) -> SweepRules:
        """How the archive is swept."""
        s = self.settings
        return SweepRules(lookback=s.archive_lookback, settle=s.settle, ask_after=s.ask_after, ask_every=s.ask_every)

    @cached_property
    def fhir_site(self) -> FhirSite:
        """What the FHIR dialect must know of this site."""
        s = self.settings
        return FhirSite(
            organization=s.site, zone=s.zone, patient_systems=s.patient_systems, accession_systems=s.accession_systems
        )

    @cached_property
    def fhir_server(self) -> FhirServer | None:
        """The EHR's FHIR server, where one is configured."""
        s = self.settings
        if not s.fhir_url:
            return None
        auth: httpx.Auth | None = None
        if s.fhir_token:
            auth = BearerToken(lambda: s.fhir_token)
        elif s.fhir_user:
            auth = httpx.BasicAuth(s.fhir_user, s.fhir_password)
        return FhirServer(s.fhir_url, name=EHR, auth=auth)

    @cached_property
    def ehr_orders(self) -> FhirOrders | None:
        """The EHR as a source of orders."""
        return FhirOrders(self.fhir_server, self.fhir_site) if self.fhir_server else None

    @cached_property
    def destinations(self) -> dict[str, Reports]:
        """Who is told the results."""
        return {EHR: FhirReports(self.fhir_server, self.fhir_site)} if self.fhir_server else {}

    @cached_property
    def engine(self) -> Engine:
        """The networks, loaded once a process and only by those that assess or draw."""
        from models.engine import Engine  # torch takes seconds and half a gigabyte: only where it is needed

        return Engine.load(self.settings.model_folder, threads=self.settings.model_threads or None)

    def check_before(self, roles: Sequence[str]) -> None:
        """
        Stop a worker that could only fail: weights that are not the card's, a FHIR server of another version.

        A server that does not answer now may answer later and stops nobody.

        Raises:
            Misconfigured: naming what is wrong.
        """
        if "assess" in roles and self.settings.model_enabled:
            for checked in self.checked_networks():
                if checked.problem is not None:
                    raise checked.problem
        if self.fhir_server is not None and {"sweep", "deliver"} & set(roles):
            with suppress(Unavailable):
                self.fhir_server.check()

    def checked_networks(self) -> list[cards.CheckedNetwork]:
        """Each network's card held against its weights."""
        return [cards.checked(self.weights, name) for name in NETWORKS]

    @cached_property
    def model_words(self) -> ModelWords:
        """The model as pages name it, its licence limit only where a model is in use."""
        from triage.web.desk import ModelWords

        chest, _ = cards.read(self.weights / "chest.json")
        lungs, _ = cards.read(self.weights / "lungs.json")
        return ModelWords(
            chest.name,
            chest.version,
            chest.threshold_of(ChestClass.COVID),
            " ".join(chest.limits),
            cards.use_in_words((chest, lungs)) if self.settings.model_enabled else "",
        )

    @property
    def weights(self) -> Path:
        """The folder of the networks' weights and cards."""
        return self.settings.model_folder or Path(cards.__file__).parent / "weights"

    @cached_property
    def assessor(self) -> Assessor:
        """What an assess worker runs."""
        return Assessor(
            archive=self.archive,
            engine=self.engine,
            book=self.book,
            use=self.engine.intended_use,
            clock=now,
            pool=ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="fetch"),
            lease=self.settings.lease,
        )

    @cached_property
    def audit(self) -> quality.Desk:
        """
        The audit desk.

        Raises:
            Misconfigured: the secret of the random sample is too short or too long.
        """
        own, (card, identity) = self.settings.audit, cards.read(self.weights / "chest.json")
        if own.secret and not 16 <= len(own.secret.encode()) <= 64:
            raise Misconfigured("TRIAGE_AUDIT_SECRET must have 16 to 64 bytes")
        return quality.Desk(
            site=self.settings.site,
            book=self.book,
            model=Model(card.name, card.version, identity.card_sha256, card.threshold_of(ChestClass.COVID) or 1.0),
            rules=AuditRules(
                margin=own.margin, drop=own.drop, alarm_every=own.alarm_every_days, sample_rate=own.sample_rate
            ),
            secret=own.secret.encode(),
            falls_back=own.falls_back,
            tells=bool(own.webhook),
        )

    @cached_property
    def webhook(self) -> Webhook | None:
        """Where drift reports are sent."""
        own = self.settings.audit
        return Webhook(own.webhook, own.webhook_token) if own.webhook else None

    @cached_property
    def hl7(self) -> Hl7Listener:
        """The handler of the MLLP socket."""
        return Hl7Listener(self.settings.site, self.book, self.settings.zone, (psycopg.OperationalError,))

    def read_fhir(self, raw: bytes) -> Sequence[OrderEvent]:
        """The order of one stored FHIR document."""
        return [from_document(raw, self.fhir_site)]

    def reader_of(self, protocol: str) -> Callable[[bytes], Sequence[OrderEvent]]:
        """How a stored message of *protocol* is read again."""
        return readers_by_protocol([("hl7", self.hl7.read), ("fhir", self.read_fhir)])(protocol)

    def replay_message(self, message_id: int) -> KeptMessage | None:
        """Apply a stored message once more; None where there is none."""
        kept = self.book.for_replay(message_id)
        return None if kept is None else self.book.accept_again(kept, self.reader_of(kept.envelope.protocol))

    @property
    def tls(self) -> ssl.SSLContext | None:
        """TLS of the MLLP socket: on with a certificate, client certificates demanded with a client CA."""
        s = self.settings
        if s.mllp_certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(s.mllp_certificate, s.mllp_key)
            if s.mllp_client_ca is not None:
                context.load_verify_locations(s.mllp_client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as why:
            raise Misconfigured(f"MLLP TLS: certificate, key or CA cannot be used: {why}") from why
        return context

    def web_app(self, secret: str) -> FastAPI:
        """The pages, the API and the FHIR endpoint; networks are loaded only when somebody asks for an activation."""
        from integrations.fhir.results import FhirComposer
        from triage.postgres.results import Results
        from triage.web.app import create_app
        from triage.web.fhir import fhir_router

        s = self.settings
        _, classifier = cards.read(self.weights / "chest.json")
        _, segmenter = cards.read(self.weights / "lungs.json")
        fhir = fhir_router(
            Results(self.pool, (classifier, segmenter)),
            FhirComposer(self.fhir_site),
            f"http://{s.web_host}:{s.web_port}/fhir",
        )
        return create_app(
            self.book,
            self.archive,
            site=s.site,
            policy=s.policy,
            rollout=s.rollout,
            model_words=self.model_words,
            secret=secret.encode(),
            zone=s.zone,
            extra_routers=(_under("/fhir", fhir),),
            activation=lambda radiograph: self.engine.activation(radiograph),
            replay_message=self._replay_in_words,
        )

    def _replay_in_words(self, message_id: int) -> str:
        kept = self.replay_message(message_id)
        if kept is None:
            raise Conflict(f"no stored message {message_id}")
        return f"{kept.outcome} {kept.reason}".strip()


def _under(path: str, router: APIRouter) -> APIRouter:
    """*router* with every route under *path*."""
    from fastapi import APIRouter

    outer = APIRouter()
    outer.include_router(router, prefix=path)
    return outer
