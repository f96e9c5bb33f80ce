"""
The service's own FHIR R4 endpoint: its results, read-only, for sites whose EHR rather asks than is told.

Searches go by GET or by `POST [type]/_search`; DESIGN section 8 keeps identifiers out of URLs, so the links written
here never carry one: a next link holds an opaque cursor, which names the patient or request of a search by a run of
the page before ("the same patient as run X") instead of by its number. Callers should search by POST; the access log
must not print query strings, as FHIR obliges a server to accept GET.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from triage.domain.errors import Unavailable
from triage.domain.finding import ModelIdentity
from triage.domain.result import Result

Resource = dict[str, Any]
Value = TypeVar("Value")

FHIR_JSON = "application/fhir+json"
DEFAULT_COUNT, LARGEST_COUNT = 50, 200
PATIENT, REQUEST = "patient", "request"
"""What a cursor can pin by a run instead of by number."""


class ResultSource(Protocol):
    """
    Where results are kept. All results count: current, superseded and withdrawn ones, each with its mark.

    Systems are the site's FHIR identifier systems; the source gets them as the caller of the endpoint wrote them.
    """

    def by_run(self, run_id: UUID) -> Result | None:
        """The result of one run, or None."""

    def find(
        self,
        *,
        patient_identifier: tuple[str, str] | None = None,
        run_id: UUID | None = None,
        based_on: str | None = None,
        accession: tuple[str, str] | None = None,
        updated_from: datetime | None = None,
        updated_to: datetime | None = None,
        count: int,
        after_cursor: str | None = None,
    ) -> tuple[list[Result], str | None]:
        """
        At most *count* results that meet every criterion given, by (last_updated, run_id), and where to go on.

        Args:
            patient_identifier: (identifier system or "" for any, patient ID); results of that ID in *any* issuer may
                be returned, the endpoint drops those whose own identifier says another system.
            run_id: one run.
            based_on: `ServiceRequest/ID`.
            accession: (identifier system or "" for any, accession number), with the same freedom as the patient.
            updated_from, updated_to: `updated_from <= last_updated < updated_to`, aware.
            after_cursor: what an earlier call returned; an opaque position, given back with the same criteria. It
                goes into a URL, so it must hold no patient data: the last (last_updated, run_id) is enough.
        Returns:
            (results, cursor), the cursor None at the end.
        Raises:
            ValueError: *after_cursor* is not one of this source's.
        """

    def devices(self) -> Sequence[ModelIdentity]:
        """Every model version that ever spoke in a result, or may now."""


class Composer(Protocol):
    """Writes resources; `integrations.fhir.results.FhirComposer` is one."""

    def device(self, model: ModelIdentity) -> Resource:
        """The Device of a model; its `id` is stable."""

    def observations(self, result: Result) -> list[Resource]:
        """The Observations, ids `RUN_ID-...`."""

    def diagnostic_report(self, result: Result) -> Resource:
        """The DiagnosticReport, id `RUN_ID`."""

    def provenance(self, result: Result) -> Resource:
        """The Provenance, id `RUN_ID-provenance`."""

    def patient_identifier(self, result: Result) -> Mapping[str, object] | None:
        """The FHIR Identifier of the patient."""

    def accession_identifier(self, result: Result) -> Mapping[str, object] | None:
        """The FHIR Identifier of the request."""


class FhirError(Exception):
    """An answer other than 2xx, told as an OperationOutcome; *text* never repeats what the caller sent as a value."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


@dataclass(frozen=True)
class _Search:
    """One search, understood."""

    patient: tuple[str, str] | None = None
    accession: tuple[str, str] | None = None
    run_id: UUID | None = None
    based_on: str | None = None
    token: tuple[str, str] | None = None
    updated_from: datetime | None = None
    updated_to: datetime | None = None
    count: int = DEFAULT_COUNT
    position: str | None = None
    shown: tuple[tuple[str, str], ...] = field(default=())
    """Parameters that may stand in a self link: none that identifies a patient or a request."""


SEARCH_PARAMETERS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "DiagnosticReport": {
        "_id": ("token", "The run"),
        "_lastUpdated": ("date", "Prefixes eq ge gt le lt sa eb"),
        "identifier": ("token", "The report's identifier, system|value"),
        "patient": ("reference", "By patient:identifier=system|value; Patient resources are not served here"),
        "subject": ("reference", "As patient"),
        "based-on": ("reference", "ServiceRequest/ID, or based-on:identifier=system|accession number"),
    },
    "Observation": {
        "_id": ("token", "The run's observation"),
        "_lastUpdated": ("date", "Prefixes eq ge gt le lt sa eb"),
        "identifier": ("token", "The observation's identifier, system|value"),
        "patient": ("reference", "By patient:identifier=system|value; Patient resources are not served here"),
        "subject": ("reference", "As patient"),
        "based-on": ("reference", "ServiceRequest/ID, or based-on:identifier=system|accession number"),
    },
    "Provenance": {
        "_id": ("token", "The run's provenance"),
        "_lastUpdated": ("date", "Prefixes eq ge gt le lt sa eb"),
        "patient": ("reference", "By patient:identifier=system|value: whom the targets are about"),
    },
    "Device": {"_id": ("token", "The model version"), "identifier": ("token", "The device UID, system|value")},
}


def fhir_router(results: ResultSource, composer: Composer, base_url: str, *, software_version: str = "") -> APIRouter:
    """
    The endpoint's routes, to be included under the path that *base_url* ends in.

    Args:
        base_url: the absolute service base as callers see it, e.g. `https://triage.example/fhir`.
    """
    endpoint = _Endpoint(results, composer, base_url.rstrip("/"), software_version)
    router = APIRouter(route_class=_FhirRoute)

    @router.get("/metadata")
    def metadata() -> Response:
        return _answer(endpoint.capabilities())

    @router.get("/{kind}/{resource_id}")
    def read(kind: str, resource_id: str, request: Request) -> Response:
        _accepts_json(request)
        return endpoint.read(kind, resource_id, request.headers.get("If-None-Match", ""))

    @router.get("/{kind}")
    def search(kind: str, request: Request) -> Response:
        _accepts_json(request)
        return _answer(endpoint.search(kind, request.query_params.multi_items(), _is_lenient(request)))

    @router.post("/{kind}/_search")
    async def search_by_post(kind: str, request: Request) -> Response:
        _accepts_json(request)
        raw = await request.body()
        form = "application/x-www-form-urlencoded"
        if raw and request.headers.get("Content-Type", "").partition(";")[0].strip() != form:
            raise FhirError(415, "not-supported", f"_search wants {form}")
        body = parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True)
        pairs = [*request.query_params.multi_items(), *body]
        return _answer(await run_in_threadpool(endpoint.search, kind, pairs, _is_lenient(request)))

    @router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    def anything_else(rest: str) -> Response:
        raise FhirError(405, "not-supported", "this endpoint reads and searches; nothing can be written to it")

    return router


class _FhirRoute(APIRoute):
    """Turns errors into OperationOutcome."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except FhirError as error:
                return _answer(_outcome(error.code, error.text), error.status)
            except Unavailable:
                answer = _answer(_outcome("transient", "the results cannot be read just now"), 503)
                answer.headers["Retry-After"] = "30"
                return answer

        return handle


class _Endpoint:
    """The reads and searches behind the routes."""

    def __init__(self, results: ResultSource, composer: Composer, base_url: str, software_version: str) -> None:
        self.results, self.composer = results, composer
        self.base_url, self.software_version = base_url, software_version

    def read(self, kind: str, resource_id: str, if_none_match: str) -> Response:
        """One resource with its version, or 304 where the caller has it."""
        resource = self._by_id(_known(kind), resource_id)
        if resource is None:
            raise FhirError(404, "not-found", f"no {kind} of this id")
        etag = f'W/"{resource["meta"]["versionId"]}"'
        is_known = etag in (tag.strip() for tag in if_none_match.split(","))
        answer = Response(status_code=304) if is_known else _answer(resource)
        answer.headers["ETag"] = etag
        updated = resource["meta"].get("lastUpdated")
        if updated:
            answer.headers["Last-Modified"] = format_datetime(datetime.fromisoformat(updated), usegmt=True)
        return answer

    def search(self, kind: str, pairs: Iterable[tuple[str, str]], is_lenient: bool) -> Resource:
        """A searchset Bundle, one page."""
        pairs = list(pairs)
        cursors = [value for name, value in pairs if name == "_cursor"]
        if _known(kind) == "Device":
            return self._devices(_search_of(kind, pairs, is_lenient))
        if cursors:
            search, pins = self._resumed(cursors[0])
        else:
            search, pins = _search_of(kind, pairs, is_lenient), {}
        found, following = self._find(search)
        resources = [r for result in found for r in self._resources(kind, result)]
        resources = _only_asked_for(resources, search)
        links = [self._link("self", kind, [*search.shown, ("_count", str(search.count))])]
        if following is not None:
            cursor = _cursor_of(search, pins, found[-1].run_id, following)
            links.append(self._link("next", kind, [("_cursor", cursor)]))
        return self._searchset(resources, links)

    def capabilities(self) -> Resource:
        """The CapabilityStatement: what `SEARCH_PARAMETERS` holds and nothing more."""
        software: Resource = {"name": "chest-triage"}
        if self.software_version:
            software["version"] = self.software_version
        return {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": "2026-11-01",
            "kind": "instance",
            "software": software,
            "implementation": {"description": "Results of chest radiograph triage, preliminary", "url": self.base_url},
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "rest": [
                {
                    "mode": "server",
                    "documentation": "Search by POST [type]/_search, so that no identifier stands in a URL.",
                    "resource": [
                        {
                            "type": kind,
                            "interaction": [{"code": "read"}, {"code": "search-type"}],
                            "versioning": "no-version",
                            "searchParam": [
                                {"name": name, "type": of_type, "documentation": meaning}
                                for name, (of_type, meaning) in parameters.items()
                            ],
                        }
                        for kind, parameters in SEARCH_PARAMETERS.items()
                    ],
                }
            ],
        }

    def _by_id(self, kind: str, resource_id: str) -> Resource | None:
        if kind == "Device":
            return next((d for d in self._all_devices() if d["id"] == resource_id), None)
        run_id = _run_of(resource_id)
        result = self.results.by_run(run_id) if run_id else None
        resources = self._resources(kind, result) if result else []
        return next((r for r in resources if r["id"] == resource_id), None)

    def _resources(self, kind: str, result: Result) -> list[Resource]:
        if kind == "Observation":
            made = self.composer.observations(result)
        else:
            is_report = kind == "DiagnosticReport"
            made = [self.composer.diagnostic_report(result) if is_report else self.composer.provenance(result)]
        updated = result.last_updated.astimezone(UTC)
        meta = {"versionId": str(int(updated.timestamp() * 1000)), "lastUpdated": _instant(updated)}
        return [{**resource, "meta": {**meta, **resource.get("meta", {})}} for resource in made]

    def _all_devices(self) -> list[Resource]:
        return [{**self.composer.device(model), "meta": {"versionId": "1"}} for model in self.results.devices()]

    def _devices(self, search: _Search) -> Resource:
        devices = _only_asked_for(self._all_devices(), search)
        return self._searchset(devices, [self._link("self", "Device", search.shown)])

    def _find(self, search: _Search) -> tuple[list[Result], str | None]:
        """The next page that is not empty: pages whose every result belongs to another issuer's number are passed."""
        found, following = self._page(search)
        while following is not None and not found:
            found, following = self._page(replace(search, position=following))
        return found, following

    def _page(self, search: _Search) -> tuple[list[Result], str | None]:
        try:
            found, following = self.results.find(
                patient_identifier=search.patient,
                run_id=search.run_id,
                based_on=search.based_on,
                accession=search.accession,
                updated_from=search.updated_from,
                updated_to=search.updated_to,
                count=search.count,
                after_cursor=search.position,
            )
        except ValueError:
            raise FhirError(400, "invalid", "the cursor cannot be read") from None
        if search.patient is not None:
            found = [r for r in found if _names(self.composer.patient_identifier(r), search.patient)]
        if search.accession is not None:
            found = [r for r in found if _names(self.composer.accession_identifier(r), search.accession)]
        return found, following

    def _resumed(self, cursor: str) -> tuple[_Search, dict[str, str]]:
        """The search a next link stands for, its patient or request looked up again by the run that pins it."""
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            stored = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
            pins = {str(kind): str(UUID(run)) for kind, run in stored["pins"].items()}
            search = _Search(
                based_on=stored["based_on"],
                updated_from=datetime.fromisoformat(stored["from"]) if stored["from"] else None,
                updated_to=datetime.fromisoformat(stored["to"]) if stored["to"] else None,
                count=max(1, min(int(stored["count"]), LARGEST_COUNT)),
                position=str(stored["position"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise FhirError(400, "invalid", "the cursor cannot be read") from None
        for kind, run in pins.items():
            result = self.results.by_run(UUID(run))
            name = self.composer.patient_identifier if kind == PATIENT else self.composer.accession_identifier
            identifier = name(result) if result else None
            if identifier is None:
                raise FhirError(410, "expired", "the search of this cursor is gone; search again")
            token = (str(identifier.get("system", "")), str(identifier["value"]))
            search = replace(search, patient=token) if kind == PATIENT else replace(search, accession=token)
        return search, pins

    def _link(self, relation: str, kind: str, pairs: Iterable[tuple[str, str]]) -> Resource:
        query = urlencode(list(pairs))
        return {"relation": relation, "url": f"{self.base_url}/{kind}" + (f"?{query}" if query else "")}

    def _searchset(self, resources: Iterable[Resource], links: list[Resource]) -> Resource:
        entries = [
            {
                "fullUrl": f"{self.base_url}/{resource['resourceType']}/{resource['id']}",
                "resource": resource,
                "search": {"mode": "match"},
            }
            for resource in resources
        ]
        bundle: Resource = {"resourceType": "Bundle", "type": "searchset", "link": links}
        return {**bundle, "entry": entries} if entries else bundle  # FHIR allows no empty array


def _search_of(kind: str, pairs: Iterable[tuple[str, str]], is_lenient: bool) -> _Search:
    """Understand search parameters; an unknown one is refused, or left out where the caller prefers leniency."""
    search = _Search()
    for name, value in pairs:
        base = re.split(r"[:.]", name)[0]
        if name in {"_format", "_pretty"}:
            continue
        if not value:
            continue  # FHIR: a parameter without a value is ignored
        if name == "_count":
            search = replace(search, count=_count(value))
            continue
        understood = _understood(search, name, value) if base in SEARCH_PARAMETERS[kind] else None
        if understood is not None:
            search = understood
        elif not is_lenient:
            raise FhirError(400, "not-supported", f"search parameter {_printable(name)} is not supported on {kind}")
    return search


def _understood(search: _Search, name: str, value: str) -> _Search | None:
    """*search* with one more parameter, or None for a modifier or chain nobody knows here."""
    if name in {"patient:identifier", "patient.identifier", "subject:identifier", "subject.identifier"}:
        return replace(search, patient=_agreeing(search.patient, _token(value)))
    if name in {"patient", "subject"}:
        if "|" not in value:
            raise FhirError(400, "not-supported", f"{name} wants an identifier here, system|value")
        return replace(search, patient=_agreeing(search.patient, _token(value)))
    if name in {"based-on:identifier", "based-on.identifier"}:
        return replace(search, accession=_agreeing(search.accession, _token(value)))
    if name == "based-on":
        if "|" in value:
            return replace(search, accession=_agreeing(search.accession, _token(value)))
        reference = value if "/" in value else f"ServiceRequest/{value}"
        return replace(search, based_on=_agreeing(search.based_on, reference), shown=(*search.shown, (name, value)))
    if name == "identifier":
        token = _token(value)
        return replace(search, token=_agreeing(search.token, token), run_id=_run_of(token[1]) or UUID(int=0))
    if name == "_id":
        return replace(search, run_id=_run_of(value) or UUID(int=0), shown=(*search.shown, (name, value)))
    if name == "_lastUpdated":
        lower, upper = _window(value)
        lowers = [at for at in (search.updated_from, lower) if at]
        uppers = [at for at in (search.updated_to, upper) if at]
        return replace(
            search,
            updated_from=max(lowers, default=None),
            updated_to=min(uppers, default=None),
            shown=(*search.shown, (name, value)),
        )
    return None


def _only_asked_for(resources: list[Resource], search: _Search) -> list[Resource]:
    """Those with the identifier and the id that *search* names, where it names one."""
    ids = [value for name, value in search.shown if name == "_id"]
    return [
        resource
        for resource in resources
        if (search.token is None or _has_identifier(resource, search.token))
        and resource["id"] in (ids or [resource["id"]])
    ]


def _agreeing(before: Value | None, now: Value) -> Value:
    """*now*, unless the same parameter already said otherwise: no result can be both."""
    if before is not None and before != now:
        raise FhirError(400, "not-supported", "a parameter is repeated with another value")
    return now


def _window(value: str) -> tuple[datetime | None, datetime | None]:
    """[from, to) of a FHIR date parameter with its prefix; a value means the whole span it names (search.html#date)."""
    match = re.fullmatch(r"(eq|ge|gt|le|lt|sa|eb)?(\d{4}(?:-\d\d(?:-\d\d(?:T.+)?)?)?)", value)
    if match is None:
        raise FhirError(400, "invalid", "_lastUpdated is not a date with one of the prefixes eq ge gt le lt sa eb")
    prefix, written = match[1] or "eq", match[2]
    try:
        first, after = _span(written)
    except (ValueError, OverflowError):
        raise FhirError(400, "invalid", "_lastUpdated is not a date") from None
    lower = {"eq": first, "ge": first, "gt": after, "sa": after}.get(prefix)
    upper = {"eq": after, "le": after, "lt": first, "eb": first}.get(prefix)
    return lower, upper


def _span(written: str) -> tuple[datetime, datetime]:
    """The first instant that *written* names and the first after it; UTC where no zone is given."""
    if len(written) == 4:
        year = int(written)
        return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    if len(written) == 7:
        year, month = int(written[:4]), int(written[5:])
        return datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    first = datetime.fromisoformat(written.replace(" ", "+"))  # an unescaped + of a zone arrives as a space
    first = first if first.tzinfo else first.replace(tzinfo=UTC)
    if len(written) == 10:
        return first, first + timedelta(days=1)
    if "." in written:
        return first, first + timedelta(milliseconds=1)
    return first, first + (timedelta(seconds=1) if written[11:].count(":") >= 2 else timedelta(minutes=1))


def _cursor_of(search: _Search, pins: Mapping[str, str], last_run: UUID, position: str) -> str:
    """The rest of *search*, without any number of a patient or a request: those are pinned by a run."""
    wanted = {PATIENT: search.patient, REQUEST: search.accession}
    kept = {kind: pins.get(kind) or str(last_run) for kind, token in wanted.items() if token is not None}
    stored = {
        "pins": kept,
        "based_on": search.based_on,
        "from": search.updated_from.isoformat() if search.updated_from else "",
        "to": search.updated_to.isoformat() if search.updated_to else "",
        "count": search.count,
        "position": position,
    }
    return base64.urlsafe_b64encode(json.dumps(stored, separators=(",", ":")).encode()).decode().rstrip("=")


def _token(value: str) -> tuple[str, str]:
    """(system, value) of `system|value`; a bare value is of any system."""
    system, bar, code = value.rpartition("|")
    return (system, code) if bar else ("", value)


def _names(identifier: Mapping[str, object] | None, token: tuple[str, str]) -> bool:
    if identifier is None or identifier.get("value") != token[1]:
        return False
    return not token[0] or identifier.get("system") == token[0]


def _has_identifier(resource: Resource, token: tuple[str, str]) -> bool:
    return any(_names(identifier, token) for identifier in resource.get("identifier", ()))


def _run_of(resource_id: str) -> UUID | None:
    """The run in an id or identifier value: a UUID, with a word after it except in a report's."""
    match = re.fullmatch(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(-[a-z]+)?", resource_id)
    return UUID(match[1]) if match else None


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", value) or int(value) == 0:
        raise FhirError(400, "invalid", "_count is not a number above 0")
    return min(int(value), LARGEST_COUNT)


def _known(kind: str) -> str:
    if kind not in SEARCH_PARAMETERS:
        raise FhirError(404, "not-supported", "this resource type is not served here")
    return kind


def _accepts_json(request: Request) -> None:
    wanted = request.query_params.get("_format") or request.headers.get("Accept", "*/*")
    if not any(word in wanted for word in ("json", "*/*", "application/*")):
        raise FhirError(406, "not-supported", "only JSON is served")


def _is_lenient(request: Request) -> bool:
    return "handling=lenient" in request.headers.get("Prefer", "").replace(" ", "")


def _printable(name: str) -> str:
    """A parameter's name, if it looks like one: a caller may put a patient's name in the wrong place."""
    return name if re.fullmatch(r"[A-Za-z_-]{1,30}([:.][A-Za-z_-]{1,30})?", name) else "(unreadable)"


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _outcome(code: str, text: str) -> Resource:
    issue = {"severity": "error", "code": code, "details": {"text": text}}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _answer(resource: Resource, status: int = 200) -> Response:
    body = json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status_code=status, media_type=FHIR_JSON, headers={"Cache-Control": "no-store"})
