"""
A FHIR R4 server over HTTP: orders in, results out.

What an answer means (STANDARDS 4.2, writing rules): 408, 429, 5xx, no answer, and 401 or 403 (a token that expired)
are `EhrUnavailable`; 400 and 422 are `RefusedByPeer`; 409 and 412 are read again before deciding. No URL, no value
of a resource and no diagnostics text of the peer goes into an error or a log, as they may name a patient.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit
from uuid import uuid4

import httpx

from integrations.fhir import orders
from integrations.fhir.results import FhirComposer
from integrations.fhir.site import FhirSite
from integrations.peer import speaking_to
from triage.domain.errors import EhrUnavailable, Misconfigured, RefusedByPeer, Rejected
from triage.domain.order import OrderEvent
from triage.domain.result import Result

Resource = dict[str, Any]

FHIR_JSON = "application/fhir+json"
ACCEPTED_VERSIONS = ("4.0.1", "4.3.0")
"""R4 and R4B agree in every resource used here; R5 renames what we write (STANDARDS 4.1)."""

REFUSALS = frozenset({400, 413, 415, 422})
COLLISIONS = frozenset({409, 412})
LARGEST_ANSWER = 64 * 2**20


class Collision(EhrUnavailable):
    """409 or 412: another write came between; read again, then decide."""


class BearerToken(httpx.Auth):
    """Sends `Authorization: Bearer`; *token* is asked each time, and once more after a 401, so that it can renew."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        sent = self._token()
        request.headers["Authorization"] = f"Bearer {sent}"
        response = yield request
        renewed = self._token() if response.status_code == httpx.codes.UNAUTHORIZED else sent
        if renewed != sent:
            request.headers["Authorization"] = f"Bearer {renewed}"
            yield request


@dataclass(frozen=True)
class Written:
    """What a server answered to one entry of a transaction."""

    status: int
    reference: str
    """`Type/id` where the server says it, else ""."""
    issues: str = ""
    """Codes of the entry's OperationOutcome; never its texts."""


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: httpx.Headers
    body: bytes

    def resource(self, name: str) -> Resource:
        """The resource in the body; an answer of 2xx without one is a proxy's, not the server's."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("resourceType"), str):
            raise EhrUnavailable(f"{name}: answered {self.status} without a FHIR resource")
        return found

    def issues(self) -> str:
        """The issue codes of an OperationOutcome, as `code at expression`; "" where the body is none."""
        try:
            return _issues(json.loads(self.body))
        except (ValueError, RecursionError):
            return ""


class FhirServer:
    """
    One FHIR server.

    Args:
        base_url: the service base, e.g. `https://ehr.example/fhir/R4`.
        auth: None, `httpx.BasicAuth` or `BearerToken`.
        timeout_s: to connect, and between two pieces of an answer; a whole answer may take six times as long.
        transport: for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str,
        auth: httpx.Auth | None = None,
        timeout_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        for library in ("httpx", "httpcore"):
            logging.getLogger(library).setLevel(logging.WARNING)  # at INFO they write every URL, identifiers and all
        if urlsplit(base_url).scheme not in {"http", "https"} or not urlsplit(base_url).hostname:
            raise Misconfigured(f"{name}: the base URL is not an http or https address")
        self.name = name
        self.base_url = base_url.rstrip("/")
        self.server_now: datetime | None = None
        """Its own clock at its last answer, to the second below; None where it does not say."""
        self._longest_s = 6 * timeout_s
        self._http = httpx.Client(
            auth=auth, timeout=timeout_s, transport=transport, follow_redirects=False, headers={"Accept": FHIR_JSON}
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def check(self) -> str:
        """
        The server's FHIR version, for start-up and `triage check`.

        Raises:
            Misconfigured: it speaks a version we do not, or its metadata is no CapabilityStatement.
            EhrUnavailable: it does not answer.
        """
        statement = self._expect(self._ask("GET", f"{self.base_url}/metadata"), "metadata").resource(self.name)
        version = statement.get("fhirVersion")
        if statement["resourceType"] != "CapabilityStatement" or version not in ACCEPTED_VERSIONS:
            shown = version if isinstance(version, str) and len(version) < 20 else "no version"
            raise Misconfigured(f"{self.name}: speaks FHIR {shown}, not {' or '.join(ACCEPTED_VERSIONS)}")
        return str(version)

    def search(self, kind: str, parameters: Sequence[tuple[str, str]], count: int = 100) -> Iterator[Resource]:
        """
        Every match, page by page: by the server's next links, else by `_offset` where it gives none.

        Offsets shift when a resource changes between two pages; so after several such pages the search is read again
        until a pass brings nothing new. A resource is yielded once per version.
        """
        seen: set[tuple[str, str]] = set()
        is_shifting, brought_news = True, True
        while is_shifting and brought_news:
            is_shifting, brought_news = False, False
            for page_number, page, has_links in self._pages(kind, parameters, count):
                is_shifting = is_shifting or (page_number > 0 and not has_links)
                for resource in page:
                    key = _version_key(resource)
                    if key not in seen:
                        seen.add(key)
                        brought_news = True
                        yield resource

    def read(self, reference: str) -> Resource | None:
        """
        The resource at *reference* (`Type/id`, or this server's absolute URL), or None where it holds none.

        A reference to another server is never followed: it would carry our credentials there (SMART, STANDARDS 4.5).
        """
        kind, _, resource_id = reference.removeprefix(f"{self.base_url}/").partition("/_history/")[0].partition("/")
        if not kind.isalpha() or not _is_id(resource_id):
            return None
        answer = self._ask("GET", f"{self.base_url}/{kind}/{resource_id}")
        if answer.status in {404, 410}:
            return None
        return self._expect(answer, f"read {kind}").resource(self.name)

    def transaction(self, body: bytes, request_id: str) -> list[Written]:
        """
        Send a transaction Bundle; returns what became of every entry, which a server may answer one by one.

        Raises:
            EhrUnavailable, RefusedByPeer: as the module says, for the transaction as a whole.
            Collision: the server answered 409 or 412.
        """
        answer = self._ask("POST", self.base_url, body=body, request_id=request_id)
        if answer.status in COLLISIONS:
            raise Collision(f"{self.name}: transaction answered {answer.status}")
        if answer.status == 404 and answer.issues():  # a reference or condition in it, not a wrong address
            raise RefusedByPeer(f"{self.name}: transaction answered 404 ({answer.issues()})")
        answered = self._expect(answer, "transaction").resource(self.name)
        entries = answered.get("entry")
        sent = len(json.loads(body)["entry"])
        if not isinstance(entries, list) or len(entries) != sent:
            got = len(entries) if isinstance(entries, list) else 0
            raise EhrUnavailable(f"{self.name}: transaction answered for {got} of {sent} entries")
        return [_written(entry) for entry in entries]

    def _pages(
        self, kind: str, parameters: Sequence[tuple[str, str]], count: int
    ) -> Iterator[tuple[int, list[Resource], bool]]:
        wanted = [*parameters, ("_count", str(count))]
        url, query = f"{self.base_url}/{kind}", wanted
        has_links, number, read = False, 0, 0
        first_of_last_page = None
        while True:
            answer = self._expect(self._ask("GET", url, query=query), f"search {kind}").resource(self.name)
            page = _matches(answer, kind)
            if page and _version_key(page[0]) == first_of_last_page:
                return  # the server ignores our paging and sends the same page for ever
            first_of_last_page = _version_key(page[0]) if page else None
            read += len(page)
            link = _next_link(answer)
            has_links = has_links or link is not None
            yield number, page, has_links
            number += 1
            if link is not None:
                url, query = self._own(urljoin(f"{self.base_url}/", link)), []
                continue
            total = answer.get("total")
            is_more = read < total if isinstance(total, int) else len(page) >= count
            if has_links or not page or not is_more:
                return
            query = [*wanted, ("_offset", str(read))]

    def _own(self, url: str) -> str:
        """*url*, if it is this server's; our credentials go nowhere else."""
        theirs, ours = urlsplit(url), urlsplit(self.base_url)
        if (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
            raise EhrUnavailable(f"{self.name}: its next link leads to another server")
        return url

    def _expect(self, answer: _Answer, phase: str) -> _Answer:
        """The answer, if it is a success; else the error that says what to do."""
        if 200 <= answer.status < 300:
            return answer
        issues = answer.issues()
        text = f"{self.name}: {phase} answered {answer.status}{f' ({issues})' if issues else ''}"
        if answer.status in REFUSALS:
            raise RefusedByPeer(text)
        wait = answer.headers.get("Retry-After", "")
        raise EhrUnavailable(f"{text}, retry after {wait} s" if wait.isdigit() else text)

    def _ask(
        self,
        method: str,
        url: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        request_id: str = "",
    ) -> _Answer:
        headers = {"X-Request-Id": request_id or str(uuid4())}
        if body is not None:
            headers["Content-Type"] = FHIR_JSON
        until = time.monotonic() + self._longest_s
        asked = httpx.QueryParams(list(query)) if query else None  # None keeps a query that stands in the URL
        with (
            speaking_to(self.name, EhrUnavailable),
            self._http.stream(method, url, params=asked, content=body, headers=headers) as reply,
        ):
            received = bytearray()
            for piece in reply.iter_bytes():
                received += piece
                if time.monotonic() > until or len(received) > LARGEST_ANSWER:
                    raise EhrUnavailable(f"{self.name}: connected, then an answer that did not end")
            self.server_now = _instant(reply.headers.get("Date", ""))
            return _Answer(reply.status_code, reply.headers, bytes(received))


class FhirOrders:
    """
    Orders of one server, as `triage.ports.Orders`.

    Args:
        criteria: further search parameters of the site, e.g. `("category", "363679005")`.
    """

    def __init__(self, server: FhirServer, site: FhirSite, criteria: Sequence[tuple[str, str]] = ()) -> None:
        self.server = server
        self.site = site
        self.criteria = tuple(criteria)
        self.name = server.name
        self.server_now: datetime | None = None
        """The server's clock when it began to answer `changed_since`: what `_lastUpdated` is written by."""

    def changed_since(self, since: datetime) -> Iterator[tuple[bytes, OrderEvent | Exception]]:
        """See `triage.ports.Orders`; *raw* holds request and patient, `orders.from_document` reads it again."""
        at = since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        patients: dict[str, Resource | None] = {}

        def patient_at(reference: str) -> orders.Resource | None:
            if reference not in patients:
                patients[reference] = self.server.read(reference)
            return patients[reference]

        asked = [*self.criteria, ("_lastUpdated", f"ge{at}"), ("_sort", "_lastUpdated")]
        self.server_now = None
        for request in self.server.search("ServiceRequest", asked):
            self.server_now = self.server_now or self.server.server_now
            fetched: list[orders.Resource | None] = []

            def lookup(reference: str, fetched: list[orders.Resource | None] = fetched) -> orders.Resource | None:
                fetched.append(patient_at(reference))
                return fetched[-1]

            event: OrderEvent | Exception
            try:
                event = orders.order_event(request, lookup, self.site)
            except Rejected as refusal:
                event = refusal
            yield orders.document(request, fetched[0] if fetched else None), event
        self.server_now = self.server_now or self.server.server_now


class FhirReports:
    """Results to one server, as `triage.ports.Reports`."""

    def __init__(self, server: FhirServer, site: FhirSite) -> None:
        self.server = server
        self.composer = FhirComposer(site)
        self.name = server.name

    def compose(self, result: Result, previous: Result | None) -> bytes:
        """See `triage.ports.Reports`."""
        return self.composer.bundle(result, previous)

    def send(self, body: bytes, control_id: str) -> str:
        """
        See `triage.ports.Reports`; returns `DiagnosticReport/ID` as the server named it.

        Entries that were written stay written when others failed: all are conditional, so a repeat completes them.
        """
        entries = [entry["resource"] for entry in json.loads(body)["entry"]]
        try:
            answers = self.server.transaction(body, control_id)
            _judge(self.name, entries, answers)
        except Collision:
            return self._after_collision(entries)
        report = next(i for i, resource in enumerate(entries) if resource["resourceType"] == "DiagnosticReport")
        return answers[report].reference or "DiagnosticReport"

    def _after_collision(self, entries: Sequence[Resource]) -> str:
        """After 409 or 412: delivered if every report and observation of ours now stands there as we wrote it."""
        found = {"DiagnosticReport": "", "Observation": ""}
        for ours in entries:
            kind = ours["resourceType"]
            if kind not in found:
                continue
            token = f"{ours['identifier'][0]['system']}|{ours['identifier'][0]['value']}"
            theirs = list(self.server.search(kind, [("identifier", token)]))
            if len({r.get("id") for r in theirs}) > 1:
                raise RefusedByPeer(f"{self.name}: {len(theirs)} {kind}s carry the identifier of one run")
            if not theirs or theirs[0].get("status") != ours["status"]:
                raise EhrUnavailable(f"{self.name}: another write came between, {kind} not as sent")
            found[kind] = found[kind] or f"{kind}/{theirs[0].get('id')}"
        return found["DiagnosticReport"]


def _judge(name: str, entries: Sequence[Mapping[str, Any]], answers: Sequence[Written]) -> None:
    """Raise what the worst entry asks for: first what waiting may help, then collisions, then refusals."""
    failed = [(e["resourceType"], a) for e, a in zip(entries, answers, strict=True) if not 200 <= a.status < 300]
    if not failed:
        return
    text = ", ".join(f"{kind} {a.status}{f' ({a.issues})' if a.issues else ''}" for kind, a in failed)
    text = f"{name}: transaction answered {text}"
    statuses = {answer.status for _, answer in failed}
    if statuses - REFUSALS - COLLISIONS - {404, 410}:
        raise EhrUnavailable(text)
    if statuses <= COLLISIONS:
        raise Collision(text)
    raise RefusedByPeer(text)


def _written(entry: Any) -> Written:
    response = entry.get("response") if isinstance(entry, dict) else None
    response = response if isinstance(response, dict) else {}
    status = str(response.get("status", ""))[:3]
    location = str(response.get("location") or "").partition("/_history/")[0]
    reference = "/".join(location.rstrip("/").split("/")[-2:])
    return Written(int(status) if status.isdigit() else 0, reference, _issues(response.get("outcome")))


def _issues(outcome: Any) -> str:
    """`code at expression` of each issue; texts and diagnostics may quote the patient and are left out."""
    if not isinstance(outcome, dict) or outcome.get("resourceType") != "OperationOutcome":
        return ""
    issues = outcome.get("issue")
    found = []
    for issue in issues if isinstance(issues, list) else []:
        if isinstance(issue, dict) and issue.get("severity") in {"error", "fatal"}:
            where = issue.get("expression")
            at = f" at {where[0]}" if isinstance(where, list) and where and str(where[0])[:1].isalpha() else ""
            found.append(f"{issue.get('code')}{at}"[:80])
    return ", ".join(found[:3])


def _matches(bundle: Resource, kind: str) -> list[Resource]:
    entries = bundle.get("entry")
    resources = [e.get("resource") for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    return [r for r in resources if isinstance(r, dict) and r.get("resourceType") == kind]


def _next_link(bundle: Resource) -> str | None:
    links = bundle.get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("relation") == "next" and isinstance(link.get("url"), str):
            return str(link["url"])
    return None


def _version_key(resource: Resource) -> tuple[str, str]:
    meta = resource.get("meta")
    version = meta.get("versionId") or meta.get("lastUpdated") if isinstance(meta, dict) else ""
    return str(resource.get("id")), str(version)


def _instant(date_header: str) -> datetime | None:
    """HTTP's Date; None where there is none that can be read."""
    try:
        return parsedate_to_datetime(date_header).replace(tzinfo=UTC)  # HTTP dates are GMT (RFC 9110, 5.6.7)
    except ValueError:
        return None


def _is_id(text: str) -> bool:
    return 0 < len(text) <= 64 and all(c.isascii() and (c.isalnum() or c in "-.") for c in text)
