"""A small DICOMweb server on a local socket, which can be told to misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydicom.dataset import Dataset

from tests.dicomweb.files import file_of

Answer = tuple[int, str, bytes]
BOUNDARY = "cut-here"


@dataclass
class Pacs:
    """
    Attributes:
        held: what is stored.
        answer: takes (path, query) and gives an answer of its own, or None for the usual one.
        asked: every request: path, query, headers.
        page: the most studies or instances in one answer.
    """

    held: list[Dataset] = field(default_factory=list)
    answer: Callable[[str, dict[str, str]], Answer | None] = lambda _path, _query: None
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    page: int = 1000
    delay_s: float = 0.0
    url: str = ""

    def usual(self, path: str, query: dict[str, str]) -> Answer:
        parts = path.strip("/").split("/")[1:]
        of_study = [one for one in self.held if len(parts) > 1 and one.StudyInstanceUID == parts[1]]
        if parts == ["studies"]:
            return self._page([self._study(one) for one in self._firsts(query)], query)
        if parts[2:] == ["instances"]:
            return self._page([short(one) for one in of_study], query)
        if not of_study:
            return 404, "text/plain", b"unknown"
        if parts[2:] == ["metadata"]:
            return 200, "application/dicom+json", json.dumps([whole(one) for one in of_study]).encode()
        return self.multipart([file_of(one) for one in of_study if one.SOPInstanceUID == parts[5]])

    def multipart(self, parts: list[bytes], end: str = f"\r\n--{BOUNDARY}--\r\n") -> Answer:
        head = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(head + part for part in parts).removeprefix(b"\r\n") + end.encode()
        return 200, f'multipart/related; type="application/dicom"; boundary={BOUNDARY}', body

    def _firsts(self, query: dict[str, str]) -> Iterator[Dataset]:
        """One data set per study the query fits."""
        studies: dict[str, Dataset] = {}
        for one in self.held:
            fits = query.get("ModalitiesInStudy", query.get("00080061", one.Modality)) == one.Modality
            fits = fits and query.get("AccessionNumber", one.AccessionNumber) == one.AccessionNumber
            if fits:
                studies.setdefault(one.StudyInstanceUID, one)
        yield from studies.values()

    def _study(self, one: Dataset) -> dict[str, Any]:
        related = [other for other in self.held if other.StudyInstanceUID == one.StudyInstanceUID]
        answer = short(one)
        answer["00080061"] = {"vr": "CS", "Value": sorted({other.Modality for other in related})}
        answer["00201208"] = {"vr": "IS", "Value": [len(related)]}
        return answer

    def _page(self, answers: list[dict[str, Any]], query: dict[str, str]) -> Answer:
        start, most = int(query.get("offset", 0)), min(self.page, int(query.get("limit", self.page)))
        return 200, "application/dicom+json", json.dumps(answers[start : start + most]).encode()


def whole(dataset: Dataset) -> dict[str, Any]:
    """WADO-RS metadata of one instance."""
    return dict(dataset.to_json_dict(bulk_data_threshold=10, bulk_data_element_handler=lambda _: "http://x/bulk"))


def short(dataset: Dataset) -> dict[str, Any]:
    """A QIDO-RS answer about one instance or its study."""
    tags = ("00080016", "00080018", "00080020", "00080030", "00080050", "00080060", "00080201", "00100010",
            "00100020", "0020000D", "0020000E")  # fmt: skip
    return {tag: element for tag, element in whole(dataset).items() if tag in tags}


@contextmanager
def serving(pacs: Pacs) -> Iterator[Pacs]:
    """*pacs* on a local socket; its url is set."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            split = urlsplit(self.path)
            query = {key: ",".join(values) for key, values in parse_qs(split.query).items()}
            pacs.asked.append((unquote(split.path), query, dict(self.headers.items())))
            time.sleep(pacs.delay_s)
            status, kind, body = pacs.answer(split.path, query) or pacs.usual(split.path, query)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    pacs.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield pacs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
