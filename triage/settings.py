"""The environment, read once into one frozen value; every other part takes plain arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from triage.domain.errors import Misconfigured
from triage.domain.priority import PriorityPolicy

ROLLOUTS = ("shadow", "show", "reorder")


@dataclass(frozen=True)
class AuditSettings:
    """
    What the audit desk is told; see `triage.audit.evidence.AuditRules` for what the numbers mean.

    Attributes:
        secret: draws the random audit sample; none, no sample.
        falls_back: whether an alarm holds the site in shadow until it is signed.
        webhook: where reports are sent, http(s); empty for nowhere.
    """

    margin: float = 0.10
    drop: float = 0.10
    alarm_every_days: float = 1000
    sample_rate: float = 0.04
    secret: str = field(default="", repr=False)
    falls_back: bool = False
    webhook: str = ""
    webhook_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Settings:
    """One process's configuration; credentials never show in its repr."""

    site: str
    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    broker_folder: Path | None
    archive_url: str
    archive_folder: Path | None
    archive_user: str = field(repr=False)
    archive_password: str = field(repr=False)
    archive_token: str = field(repr=False)
    archive_lookback: timedelta
    settle: timedelta
    ask_after: timedelta
    ask_every: timedelta
    sweep_every_s: float
    fhir_url: str
    fhir_user: str = field(repr=False)
    fhir_password: str = field(repr=False)
    fhir_token: str = field(repr=False)
    fhir_lookback: timedelta
    fhir_overlap: timedelta
    patient_systems: Mapping[str, str]
    accession_systems: Mapping[str, str]
    mllp_host: str
    mllp_port: int
    mllp_certificate: Path | None
    mllp_key: Path | None
    mllp_client_ca: Path | None
    web_host: str
    web_port: int
    web_secret: str = field(repr=False)
    model_enabled: bool
    model_folder: Path | None
    model_threads: int
    batch: int
    lease: timedelta
    rollout: str
    policy: PriorityPolicy
    chest_codes: frozenset[str]
    zone: ZoneInfo
    log_level: str
    audit: AuditSettings

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """
        Read `TRIAGE_*` from *env*.

        Raises:
            Misconfigured: naming the variable that is missing or wrong.
        """
        read = _Reader(env)
        settings = cls(
            site=read.text("SITE", "main"),
            database_url=read.secret("DATABASE_URL"),
            broker_url=read.secret("BROKER_URL"),
            broker_folder=read.path("BROKER_FOLDER"),
            archive_url=read.text("ARCHIVE_URL", ""),
            archive_folder=read.path("ARCHIVE_FOLDER"),
            archive_user=read.text("ARCHIVE_USER", ""),
            archive_password=read.secret("ARCHIVE_PASSWORD"),
            archive_token=read.secret("ARCHIVE_TOKEN"),
            archive_lookback=timedelta(days=read.number("ARCHIVE_LOOKBACK_DAYS", 2)),
            settle=timedelta(seconds=read.number("SETTLE_S", 10)),
            ask_after=timedelta(seconds=read.number("ASK_AFTER_S", 600)),
            ask_every=timedelta(seconds=read.number("ASK_EVERY_S", 300)),
            sweep_every_s=read.number("SWEEP_EVERY_S", 5),
            fhir_url=read.text("FHIR_URL", ""),
            fhir_user=read.text("FHIR_USER", ""),
            fhir_password=read.secret("FHIR_PASSWORD"),
            fhir_token=read.secret("FHIR_TOKEN"),
            fhir_lookback=timedelta(days=read.number("FHIR_LOOKBACK_DAYS", 2)),
            fhir_overlap=timedelta(seconds=read.number("FHIR_OVERLAP_S", 120)),
            patient_systems=read.table("PATIENT_SYSTEMS"),
            accession_systems=read.table("ACCESSION_SYSTEMS"),
            mllp_host=read.text("MLLP_HOST", "127.0.0.1"),
            mllp_port=int(read.number("MLLP_PORT", 2575)),
            mllp_certificate=read.path("MLLP_CERTIFICATE"),
            mllp_key=read.path("MLLP_KEY"),
            mllp_client_ca=read.path("MLLP_CLIENT_CA"),
            web_host=read.text("WEB_HOST", "127.0.0.1"),
            web_port=int(read.number("WEB_PORT", 8080)),
            web_secret=read.secret("WEB_SECRET"),
            model_enabled=read.one_of("MODEL", "on", ("on", "off")) == "on",
            model_folder=read.path("MODEL_FOLDER"),
            model_threads=int(read.number("MODEL_THREADS", 0)),
            batch=int(read.number("BATCH", 8)),
            lease=timedelta(seconds=read.number("LEASE_S", 180)),
            rollout=read.one_of("ROLLOUT", "show", ROLLOUTS),
            policy=PriorityPolicy(
                stat=read.minutes("WAIT_STAT_MIN", 15),
                flagged=read.minutes("WAIT_FLAGGED_MIN", 30),
                urgent=read.minutes("WAIT_URGENT_MIN", 60),
                routine=read.minutes("WAIT_ROUTINE_MIN", 480),
                expedited_per_ordinary=int(read.number("EXPEDITED_PER_ORDINARY", 1)),
            ),
            chest_codes=frozenset(filter(None, read.text("CHEST_CODES", "").split(","))),
            zone=read.zone("TIME_ZONE", "UTC"),
            log_level=read.one_of("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
            audit=AuditSettings(
                margin=read.share("AUDIT_MARGIN", 0.10),
                drop=read.share("AUDIT_DROP", 0.10),
                alarm_every_days=read.number("AUDIT_ALARM_EVERY_DAYS", 1000),
                sample_rate=read.share("AUDIT_SAMPLE_RATE", 0.04),
                secret=read.secret("AUDIT_SECRET"),
                falls_back=read.one_of("AUDIT_FALL_BACK", "off", ("on", "off")) == "on",
                webhook=read.text("AUDIT_WEBHOOK", ""),
                webhook_token=read.secret("AUDIT_WEBHOOK_TOKEN"),
            ),
        )
        if settings.archive_url and settings.archive_folder:
            raise Misconfigured("TRIAGE_ARCHIVE_URL and TRIAGE_ARCHIVE_FOLDER are both set; one archive at a time")
        return settings


@dataclass(frozen=True)
class _Reader:
    env: Mapping[str, str] = field(repr=False)

    def text(self, name: str, default: str) -> str:
        return self.env.get(f"TRIAGE_{name}", default).strip()

    def secret(self, name: str) -> str:
        """The value, or the content of the file that `..._FILE` names (secrets mounted as files)."""
        file = self.text(f"{name}_FILE", "")
        if not file:
            return self.text(name, "")
        try:
            return Path(file).read_text().strip()
        except OSError as why:
            raise Misconfigured(f"TRIAGE_{name}_FILE cannot be read: {why.strerror}") from why

    def path(self, name: str) -> Path | None:
        value = self.text(name, "")
        return Path(value).expanduser() if value else None

    def number(self, name: str, default: float) -> float:
        value = self.text(name, "")
        try:
            number = float(value) if value else float(default)
        except ValueError:
            raise Misconfigured(f"TRIAGE_{name} must be a number, not {value!r}") from None
        if number < 0:
            raise Misconfigured(f"TRIAGE_{name} must not be negative")
        return number

    def share(self, name: str, default: float) -> float:
        share = self.number(name, default)
        if not 0 < share < 1:
            raise Misconfigured(f"TRIAGE_{name} must lie between 0 and 1")
        return share

    def table(self, name: str) -> Mapping[str, str]:
        """`issuer=uri,issuer=uri`; an issuer left out before the `=` stands for identifiers without one."""
        pairs = [part.partition("=") for part in self.text(name, "").split(",") if part.strip()]
        if any(not uri for _, _, uri in pairs):
            raise Misconfigured(f"TRIAGE_{name} must read issuer=uri,issuer=uri")
        return {issuer.strip(): uri.strip() for issuer, _, uri in pairs}

    def minutes(self, name: str, default: float) -> timedelta:
        return timedelta(minutes=self.number(name, default))

    def one_of(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise Misconfigured(f"TRIAGE_{name} must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def zone(self, name: str, default: str) -> ZoneInfo:
        value = self.text(name, default)
        try:
            return ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise Misconfigured(f"TRIAGE_{name}: no time zone {value!r}") from None
