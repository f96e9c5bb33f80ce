"""
A DICOMweb server as the service's archive.

QIDO-RS cannot be asked what was stored since; it knows study dates only. A sweep therefore asks for a window of study
date-times that reaches far enough back for late storage and overlaps the last one; what comes twice is known already.
Servers ignore filters they do not know and answer with everything (Orthanc), so every answer is held against the
question. Nothing is retried here and nothing waits without limit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from integrations.dicomweb.facts import instance_facts, seen_instance, study_facts
from integrations.dicomweb.header import count, from_json, span, text, texts
from integrations.dicomweb.radiograph import USUAL, Limits, read, to_radiograph
from integrations.peer import speaking_to
from triage.domain.errors import ArchiveUnavailable, IncompleteStudy, TriageError, UnusableRadiograph
from triage.domain.imaging import InstanceFacts, Radiograph, SeenInstance, StudyFacts

MODALITIES = ("CR", "DX")
CLOCKS_AHEAD = timedelta(days=1)
"""A modality whose clock runs ahead dates its studies after the sweep; they are taken all the same."""

Json = dict[str, dict[str, Any]]

_STUDY_FIELDS = (
    "00080061", "00201208", "00080201", "00080050", "00080051", "00081030", "00100021", "00100030", "00100040",
)  # fmt: skip
"""ModalitiesInStudy, NumberOfStudyRelatedInstances, TimezoneOffsetFromUTC, accession, issuer, description, patient."""
_INSTANCE_FIELDS = ("00080016", "00080060")
_NEEDED = ("SOPClassUID", "Modality")
_NEEDED_OF_IMAGES = ("Rows", "Columns", "PhotometricInterpretation")


def quiet_libraries() -> None:
    """These log URLs, paths and tracebacks, which hold accession numbers, patient numbers and UIDs."""
    for name in ("dicomweb_client", "urllib3", "requests", "retrying"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class DicomwebArchive:
    """`triage.ports.Archive` over QIDO-RS and WADO-RS; safe to use from several threads (one connection pool each)."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "archive",
        site_zone: tzinfo,
        user: str = "",
        password: str = "",
        token: str | Callable[[], str] = "",
        timeout_s: float | tuple[float, float] = (5.0, 30.0),
        page_size: int | None = None,
        limits: Limits = USUAL,
        session: Callable[[], requests.Session] = requests.Session,
    ) -> None:
        """
        Args:
            url: up to and without `/studies`.
            site_zone: for studies without TimezoneOffsetFromUTC.
            user, password: for HTTP basic authentication.
            token: a bearer token, or what gives one that is still good.
            timeout_s: (to connect, between two bytes); one number is both.
            page_size: studies or instances asked for at a time; None leaves it to the server. Orthanc 1.10 with a limit
                and ModalitiesInStudy gives one page and calls the next ones empty, so studies would be lost.
            session: makes a session per thread, with certificates or proxies of its own.
        """
        quiet_libraries()
        self.name = name
        self._url = url.rstrip("/")
        self._site_zone = site_zone
        self._auth = _Bearer(token) if token else (user, password) if user else None
        self._timeout_s = timeout_s
        self._page_size = page_size
        self._limits = limits
        self._new_session = session
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    def close(self) -> None:
        """Close the connections of all threads; the next question opens new ones."""
        self._local = threading.local()
        while self._sessions:
            self._sessions.pop().close()

    def studies_since(self, since: datetime, until: datetime) -> Iterator[StudyFacts]:
        """
        Studies holding CR or DX dated from *since* to a day after *until* (clocks run ahead); duplicates may occur.

        Raises:
            ArchiveUnavailable: no answer; what was yielded before stands.
        """
        days = [(at.astimezone(self._site_zone) + shift).strftime("%Y%m%d") for at, shift in _widened(since, until)]
        for modality in MODALITIES:  # a list would need a backslash, which not every server decodes
            filters = {"ModalitiesInStudy": modality, "StudyDate": "-".join(days)}
            for answer in self._studies(filters):
                dataset = from_json(answer)
                if _is_radiography(dataset) and _may_lie_within(dataset, since, until, self._site_zone):
                    yield from self._facts(dataset)

    def studies_of_accession(self, accession_number: str) -> Sequence[StudyFacts]:
        """Studies of any modality filed under *accession_number*."""
        if not accession_number or set(accession_number) & set("*?\\"):  # these would be matched as patterns
            return []
        found = (from_json(answer) for answer in self._studies({"AccessionNumber": accession_number}))
        return [
            facts
            for dataset in found
            if text(dataset, "AccessionNumber") == accession_number.strip()
            for facts in self._facts(dataset)
        ]

    def study(self, study_instance_uid: str) -> StudyFacts | None:
        """One study, whatever its date; None where the archive knows none."""
        found = (from_json(answer) for answer in self._studies({"StudyInstanceUID": study_instance_uid}))
        facts = (facts for dataset in found for facts in self._facts(dataset))
        return next((one for one in facts if one.study_instance_uid == study_instance_uid), None)

    def instances(self, study_instance_uid: str) -> Sequence[SeenInstance]:
        """The instances the archive lists now; empty where it knows no such study."""
        client = self._client()

        def page(offset: int) -> list[Json]:
            return client.search_for_instances(  # type: ignore[no-any-return]
                study_instance_uid=study_instance_uid,
                limit=self._page_size,
                offset=offset or None,
                fields=list(_INSTANCE_FIELDS),
            )

        try:
            answers = list(self._pages(page, "00080018"))
        except _Unknown:
            return []
        of_study = (one for one in answers if _first(one, "0020000D") in ("", study_instance_uid))
        return [seen for answer in of_study for seen in _seen(answer)]

    def headers(self, study_instance_uid: str) -> Iterator[InstanceFacts | tuple[str, UnusableRadiograph]]:
        """
        The header facts of every instance, from WADO-RS metadata; an instance whose metadata lack what the gate needs
        is retrieved whole.

        Raises:
            ArchiveUnavailable: no answer; IncompleteStudy where fewer instances came than the archive lists. Nothing
                was yielded then.
        """
        listed = {seen.sop_instance_uid: seen for seen in self.instances(study_instance_uid)}
        try:
            with self._speaking():
                metadata = self._objects(self._client().retrieve_study_metadata(study_instance_uid))
        except _Unknown:
            metadata = []
        known = {
            _first(one, "00080018"): one for one in metadata if _first(one, "0020000D") in ("", study_instance_uid)
        }
        known.pop("", None)
        missing = listed.keys() - known.keys()
        if missing:
            raise IncompleteStudy(f"{self.name}: metadata of {len(listed) - len(missing)} of {len(listed)} instances")
        found = [(uid, self._header(study_instance_uid, uid, answer, listed.get(uid))) for uid, answer in known.items()]
        for uid, header in found:
            yield header if isinstance(header, InstanceFacts) else (uid, header)

    def radiograph(self, facts: InstanceFacts) -> Radiograph:
        """
        Retrieve one instance as it was stored, and decode it.

        Raises:
            UnusableRadiograph: it came whole and cannot be decoded.
            ArchiveUnavailable: it did not come, or another came, or part of it.
        """
        dataset = self._retrieve(facts.study_instance_uid, facts.series_instance_uid, facts.sop_instance_uid)
        return to_radiograph(dataset, site_zone=self._site_zone, limits=self._limits)

    def _header(
        self, study_uid: str, sop_uid: str, answer: Json, seen: SeenInstance | None
    ) -> InstanceFacts | UnusableRadiograph:
        dataset = from_json(answer)
        series_uid = text(dataset, "SeriesInstanceUID") or (seen.series_instance_uid if seen else "")
        try:
            if not _is_poor(dataset):
                return instance_facts(dataset, self._site_zone, has_pixels=_may_have_pixels(dataset))
            return instance_facts(self._retrieve(study_uid, series_uid, sop_uid), self._site_zone)
        except UnusableRadiograph as refusal:
            return refusal

    def _retrieve(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset:
        try:
            with self._speaking():
                dataset = self._client().retrieve_instance(study_uid, series_uid, sop_uid)
        except (_Unknown, IndexError):  # IndexError: an answer without a part
            raise ArchiveUnavailable(f"{self.name}: instance {sop_uid} did not come") from None
        except InvalidDicomError:  # no preamble: some archives give back what was stored without one
            dataset = read(self._local.part, self._limits)
            if not text(dataset, "SOPInstanceUID"):
                raise UnusableRadiograph("unreadable-header", "no DICOM file came") from None
        except ValueError:  # the client's, for what is no multipart
            raise ArchiveUnavailable(f"{self.name}: answered, but not with one instance") from None
        except TriageError:
            raise
        except Exception as exc:  # pydicom raises whatever the bad bytes provoke
            raise UnusableRadiograph("unreadable-header", type(exc).__name__) from None
        if text(dataset, "SOPInstanceUID") != sop_uid:
            raise ArchiveUnavailable(f"{self.name}: another instance came than {sop_uid}")
        return dataset  # type: ignore[no-any-return]

    def _studies(self, filters: Mapping[str, str]) -> Iterator[Json]:
        client = self._client()

        def page(offset: int) -> list[Json]:
            return client.search_for_studies(  # type: ignore[no-any-return]
                search_filters=dict(filters),
                limit=self._page_size,
                offset=offset or None,
                fields=list(_STUDY_FIELDS),
            )

        try:
            yield from self._pages(page, "0020000D")
        except _Unknown:
            raise ArchiveUnavailable(f"{self.name}: answered 404 to a search") from None

    def _pages(self, page: Callable[[int], list[Json]], uid_tag: str) -> Iterator[Json]:
        """
        Every answer once, page by page until one is empty: a server may give fewer than asked for, and newest first.

        A page equal to the last one ends it too: that server ignores the offset.
        """
        seen: set[str] = set()
        offset, last = 0, [""]
        while True:
            with self._speaking():
                answers = self._objects(page(offset))
            uids = [_first(answer, uid_tag) for answer in answers]
            if not answers or uids == last:
                return
            yield from (one for uid, one in zip(uids, answers, strict=True) if uid not in seen and not seen.add(uid))  # type: ignore[func-returns-value]
            offset, last = offset + len(answers), uids

    def _objects(self, answer: Any) -> list[Json]:
        """
        Raises:
            ArchiveUnavailable: *answer* is no list of objects.
        """
        if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
            raise ArchiveUnavailable(f"{self.name}: answered, but not with DICOM JSON")
        return answer

    def _facts(self, dataset: Dataset) -> Iterator[StudyFacts]:
        try:
            yield study_facts(dataset, self._site_zone)
        except UnusableRadiograph:  # an answer without a Study Instance UID cannot be asked for
            logging.getLogger(__name__).warning("%s: listed a study without a usable UID", self.name)

    def _speaking(self) -> Any:
        return speaking_to(self.name)

    def _client(self) -> Any:
        """This thread's client; requests' sessions are not made to be shared."""
        if not hasattr(self._local, "client"):
            session = self._new_session()
            self._sessions.append(session)
            if self._auth is not None:
                session.auth = self._auth
            client = DICOMwebClient(
                self._url, session=session, timeout=self._timeout_s, callback=self._look_at, permissive_uid=True
            )
            client.set_http_retry_params(retry=False)
            self._local.client = client
        return self._local.client

    def _look_at(self, response: requests.Response, *_args: Any, **_kwargs: Any) -> requests.Response:
        """
        What the client passes over: 404, a partial answer (dicomweb-client #94), a body cut before its last boundary.

        Raises:
            ArchiveUnavailable: the answer is not whole.
        """
        try:
            self._refuse_in_part(response)
        except BaseException:
            response.close()
            raise
        return response

    def _refuse_in_part(self, response: requests.Response) -> None:
        if response.status_code == 404:
            raise _Unknown
        is_search = (response.request.path_url or "").partition("?")[0].endswith(("/studies", "/instances"))
        if response.status_code == 206 and not is_search:
            raise ArchiveUnavailable(f"{self.name}: answered 206, a part of what was asked for")
        kind = response.headers.get("Content-Type", "")
        if kind.lower().startswith("multipart/") and response.ok:
            boundary = kind.partition("boundary=")[2].partition(";")[0].strip(' "')
            if boundary and f"--{boundary}--".encode() not in response.content[-len(boundary) - 64 :]:
                raise ArchiveUnavailable(f"{self.name}: answering, then cut short")
            self._local.part = response.content.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        elif kind.lower().startswith("application/dicom") and "json" not in kind and response.ok:
            self._local.part = response.content
            response.headers["Content-Type"] = "multipart/related"  # one bare part: the client warns, else reads it


class _Unknown(Exception):
    """404: the archive knows no such thing."""


class _Bearer(requests.auth.AuthBase):
    """A bearer token, asked for anew at each request; as an auth object no .netrc can take its place."""

    def __init__(self, token: str | Callable[[], str]) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token() if callable(self._token) else self._token}"
        return request


def _widened(since: datetime, until: datetime) -> tuple[tuple[datetime, timedelta], ...]:
    """A day to each side: a study's own zone may put it on another date than the site's."""
    return (since, -timedelta(days=1)), (until, CLOCKS_AHEAD)


def _may_lie_within(dataset: Dataset, since: datetime, until: datetime, site_zone: tzinfo) -> bool:
    """Whether the study's date-time may lie in the window; one without a readable date may lie anywhere."""
    when = span(dataset, "Study", site_zone)
    return when is None or (when[1] >= since and when[0] <= until + CLOCKS_AHEAD)


def _is_radiography(dataset: Dataset) -> bool:
    """Whether the study may hold CR or DX; an archive that does not say leaves it open."""
    listed = set("\\".join(texts(dataset, "ModalitiesInStudy")).replace(",", "\\").split("\\"))
    return listed == {""} or not listed.isdisjoint(MODALITIES)


def _is_poor(dataset: Dataset) -> bool:
    """Whether metadata lack what the header gate needs, so that the instance itself must tell."""
    if not all(text(dataset, keyword) for keyword in _NEEDED):
        return True
    is_radiograph = text(dataset, "Modality") in MODALITIES
    return is_radiograph and not all(text(dataset, keyword) for keyword in _NEEDED_OF_IMAGES)


def _may_have_pixels(dataset: Dataset) -> bool:
    """Whether metadata speak of pixels; some archives leave the element out, an image's Rows stand for it."""
    return "PixelData" in dataset or "FloatPixelData" in dataset or count(dataset, "Rows", 0) > 0


def _first(answer: Mapping[str, Any], tag: str) -> str:
    """The first value of one element of DICOM JSON, or ""."""
    element = answer.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


def _seen(answer: Json) -> Iterator[SeenInstance]:
    try:
        yield seen_instance(answer)
    except UnusableRadiograph:  # without UIDs it cannot be asked for
        return
