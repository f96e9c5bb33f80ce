"""Log set-up, free of patient data: one JSON line an event, libraries that print addresses or values kept quiet."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

TALKATIVE = (
    "httpx", "httpcore", "urllib3", "dicomweb_client", "pydicom", "pynetdicom", "hl7apy", "uvicorn.access",
    "psycopg", "psycopg.pool", "kombu", "PIL", "multipart", "celery.worker.strategy", "celery.app.trace",
)  # fmt: skip
"""Loggers whose INFO or DEBUG lines hold URLs, data sets, messages or statements."""


WARNING = re.compile(r"([^/\\:\s]+\.py:\d+): (\w+): ")
"""Place and category in a line that `warnings.formatwarning` wrote."""


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, event, and the fault's type and place (never its local values)."""

    def format(self, record: logging.LogRecord) -> str:
        """Write *record*."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": self._event(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["fault"] = self._fault(record)
        return json.dumps(line, ensure_ascii=False)

    @staticmethod
    def _event(record: logging.LogRecord) -> str:
        """The message; of libraries that write an exception's text into theirs, only what kind of event it was."""
        is_fault = record.levelno >= logging.ERROR or record.exc_info
        if record.name.partition(".")[0] == "celery" and is_fault:
            task = getattr(record, "data", None)
            return f"task {task['name']} failed" if isinstance(task, dict) and "name" in task else "celery: a fault"
        if record.name == "py.warnings":
            found = WARNING.search(record.getMessage())
            return f"a warning: {found[2]} at {found[1]}" if found else "a warning: of a kind not named"
        return record.getMessage()

    @staticmethod
    def _fault(record: logging.LogRecord) -> dict[str, object]:
        """Type and stack of a fault without its message: libraries quote values there, and values are patients."""
        assert record.exc_info is not None
        kind, _, trace = record.exc_info
        places = []
        while trace is not None:
            code = trace.tb_frame.f_code
            places.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        return {"type": kind.__name__ if kind else "", "stack": places[-12:]}


def configure(level: str = "INFO") -> None:
    """Send every log line of this process to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
