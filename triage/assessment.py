"""Fetch, gate, score, record: the most urgent studies first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta

from triage.domain.eligibility import IntendedUse, header_refusal, study_refusal
from triage.domain.errors import IncompleteStudy, Unavailable, UnusableRadiograph
from triage.domain.finding import Assessment
from triage.domain.imaging import InstanceFacts, Radiograph
from triage.ports import Archive, Engine, Lease, Leases

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=3)
"""Longer than the slowest batch; a worker that does not come back within it has crashed."""

ENGINE_ATTEMPTS = 8
"""How often a study meets an engine that fails on everything before it is shown as failed; about nine minutes."""

Fetched = Radiograph | UnusableRadiograph | Unavailable


@dataclass(frozen=True)
class Assessor:
    """What one worker process holds: where images are, what scores them, what is remembered."""

    archive: Archive
    engine: Engine
    book: Leases
    use: IntendedUse
    clock: Callable[[], datetime]
    pool: Executor
    lease: timedelta = LEASE

    def assess_ready(self, limit: int) -> int:
        """Score the most urgent studies that are ready, at most *limit*; each takes its place in the reading list."""
        leases = self.book.lease_most_urgent(limit, self.lease)
        if not leases:
            return 0
        started = time.perf_counter()
        fetched = list(self.pool.map(self._fetch, leases))
        for lease, outcome in zip(leases, self._outcomes(fetched), strict=True):
            self._settle(lease, outcome)
        log.info("assessed %d studies in %.2f s", len(leases), time.perf_counter() - started)
        return len(leases)

    def _settle(self, lease: Lease, outcome: Assessment | UnusableRadiograph | Unavailable) -> None:
        if isinstance(outcome, EngineFault) and lease.attempt >= ENGINE_ATTEMPTS:
            outcome = UnusableRadiograph("engine-error", str(outcome))
        if isinstance(outcome, Unavailable):
            incomplete = isinstance(outcome, IncompleteStudy)
            self.book.offer_again(lease, str(outcome), is_incomplete=incomplete)
            log.warning("study %s: offered again: %s", lease.study_instance_uid, outcome)
        elif not self.book.record(lease, outcome):
            log.warning("study %s: attempt %d came too late", lease.study_instance_uid, lease.attempt)

    def _outcomes(self, fetched: Sequence[Fetched]) -> Iterator[Assessment | UnusableRadiograph | Unavailable]:
        """One outcome per fetched study: radiographs go through the engine in one batch, the rest pass by."""
        radiographs = [item for item in fetched if isinstance(item, Radiograph)]
        scored = iter(self._scored(radiographs))
        for item in fetched:
            yield next(scored) if isinstance(item, Radiograph) else item

    def _scored(self, radiographs: Sequence[Radiograph]) -> Sequence[Assessment | UnusableRadiograph | Unavailable]:
        if not radiographs:
            return []
        try:
            return _matching(radiographs, self.engine.assess(radiographs, self.clock()))
        except Exception:  # one image must not take its batch along: try each alone, name the culprit
            log.exception("a batch of %d failed; trying each alone", len(radiographs))
            alone = [self._scored_alone(radiograph) for radiograph in radiographs]
        if any(isinstance(outcome, Assessment) for outcome in alone):
            return alone
        # nothing passes: more likely the engine (a lost GPU) than every image; it is offered again a few times
        return [EngineFault(str(o)) if _is_fault(o) else o for o in alone]

    def _scored_alone(self, radiograph: Radiograph) -> Assessment | UnusableRadiograph:
        try:
            return _matching([radiograph], self.engine.assess([radiograph], self.clock()))[0]
        except Exception as fault:
            log.exception("instance %s failed alone", radiograph.facts.sop_instance_uid)
            return UnusableRadiograph("engine-error", type(fault).__name__)

    def _fetch(self, lease: Lease) -> Fetched:
        """The study's first eligible frontal radiograph, or why there is none."""
        try:
            headers = self._read_headers(lease)
            eligible = [facts for _, facts, refusal in headers if facts is not None and not refusal]
            if not eligible:
                return UnusableRadiograph(study_refusal(refusal for _, _, refusal in headers))
            return self._first_decodable(sorted(eligible, key=_by_acquisition))
        except Unavailable as why:
            return why
        except Exception as fault:  # one study must not take its batch along; its text may quote a patient
            log.exception("study %s could not be fetched", lease.study_instance_uid)
            return Unavailable(f"fetching failed: {type(fault).__name__}")

    def _read_headers(self, lease: Lease) -> list[tuple[str, InstanceFacts | None, str]]:
        """Every instance's facts and header refusal, kept for the audit; the count must be what the archive lists."""
        read: list[tuple[str, InstanceFacts | None, str]] = []
        for header in self.archive.headers(lease.study_instance_uid):
            if isinstance(header, InstanceFacts):
                read.append((header.sop_instance_uid, header, header_refusal(header, self.use) or ""))
            else:
                read.append((header[0], None, header[1].reason))
        listed = len(self.archive.instances(lease.study_instance_uid))
        if len(read) < listed or not read:
            raise IncompleteStudy(f"incomplete: {len(read)} of {listed} instances")
        self.book.read_headers(lease, read)
        return read

    def _first_decodable(self, eligible: Sequence[InstanceFacts]) -> Fetched:
        refusal: UnusableRadiograph | None = None
        for facts in eligible:
            try:
                return self.archive.radiograph(facts)
            except UnusableRadiograph as why:
                refusal = refusal or why
        assert refusal is not None
        return refusal


def _matching(
    radiographs: Sequence[Radiograph], outcomes: Sequence[Assessment | UnusableRadiograph]
) -> Sequence[Assessment | UnusableRadiograph]:
    """*outcomes* as they are, once each speaks of its own radiograph: another patient's result is the worst outcome."""
    for radiograph, outcome in zip(radiographs, outcomes, strict=True):
        if isinstance(outcome, Assessment) and outcome.sop_instance_uid != radiograph.facts.sop_instance_uid:
            raise ValueError(f"asked about {radiograph.facts.sop_instance_uid}, told of {outcome.sop_instance_uid}")
    return outcomes


class EngineFault(Unavailable):
    """The engine failed on everything it was given."""


def _is_fault(outcome: Assessment | UnusableRadiograph) -> bool:
    return isinstance(outcome, UnusableRadiograph) and outcome.reason == "engine-error"


def _by_acquisition(facts: InstanceFacts) -> tuple[bool, str, str]:
    at = facts.acquired_at
    return (at is None, "" if at is None else at.isoformat(), facts.sop_instance_uid)
