"""
A blocking MLLP sender: one message, one answer, matched on MSA-2.

A late answer taken for the next message's would lose that message (nextgen connect #1441): answers to other messages
are passed over, and a connection on which an answer stayed away is not used again.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType

from integrations.hl7.framing import Deframer, Kind, frame
from integrations.hl7.header import header
from integrations.hl7.segments import segments
from triage.domain.errors import MalformedMessage, Unavailable


@dataclass(frozen=True)
class Answer:
    """An acknowledgement: MSA-1, MSA-2, and the table 0357 code of ERR where there is one."""

    code: str
    control_id: str
    condition: str = ""
    raw: bytes = field(default=b"", repr=False)

    @property
    def accepted(self) -> bool:
        """AA or CA: the receiver has it, do not send again."""
        return self.code in {"AA", "CA"}


class MllpClient:
    """One connection, opened when first needed; a context manager."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeout_s: float = 10,
        max_bytes: int = 2**20,
    ) -> None:
        self._address = (host, port)
        self._ssl_context = ssl_context
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._deframer = Deframer(max_bytes)
        self._socket: socket.socket | None = None

    def __enter__(self) -> MllpClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later `send` opens a new one."""
        if self._socket:
            self._socket.close()
        self._socket = None

    def send(self, message: bytes) -> Answer:
        """
        Send one message and wait for its answer.

        Raises:
            MalformedMessage: *message* has no header.
            Unavailable: no connection, no answer in time, or one without MSA; whether it arrived is not known.
        """
        control_id = header(message).control_id
        phase = "connecting"
        try:
            connection = self._connected()
            phase = "sending"
            connection.settimeout(self._timeout_s)
            connection.sendall(frame(message))
            phase = "waiting for the answer"
            return self._answer(connection, control_id)
        except (OSError, MalformedMessage) as exc:
            self.close()
            raise Unavailable(f"MLLP receiver: {phase}, then {type(exc).__name__}") from exc

    def _connected(self) -> socket.socket:
        if self._socket and select.select([self._socket], [], [], 0)[0]:
            self.close()  # hung up meanwhile (hl7apy's server does after each answer), or something we did not ask for
        if self._socket is None:
            self._deframer = Deframer(self._max_bytes)
            plain = socket.create_connection(self._address, timeout=self._timeout_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                tls = self._ssl_context
                self._socket = tls.wrap_socket(plain, server_hostname=self._address[0]) if tls else plain
            except BaseException:
                plain.close()
                raise
        return self._socket

    def _answer(self, connection: socket.socket, control_id: str) -> Answer:
        deadline = time.monotonic() + self._timeout_s
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            data = connection.recv(65536)
            if not data:
                raise ConnectionResetError
            for block in self._deframer.feed(data):
                if block.kind is Kind.MESSAGE and (answer := answered(block.content)).control_id == control_id:
                    return answer
        raise TimeoutError


def answered(raw: bytes) -> Answer:
    """
    Read an acknowledgement.

    Raises:
        MalformedMessage: no MSH or no MSA: it confirms nothing.
    """
    head = header(raw)
    text = raw.decode("latin-1")  # MSA-1 and MSA-2 are ASCII; words around them in any charset must not cost the answer
    found = {line.name: line for line in segments(text, head.separators)}
    if "MSA" not in found:
        raise MalformedMessage("an answer without MSA", "MSA")
    condition = ""
    if "ERR" in found:
        condition = found["ERR"].value(3) or found["ERR"].value(1, 4)
    return Answer(found["MSA"].text(1), found["MSA"].text(2), condition, raw)


def send(
    host: str,
    port: int,
    messages: Iterable[bytes],
    *,
    ssl_context: ssl.SSLContext | None = None,
    timeout_s: float = 10,
) -> list[Answer]:
    """Send *messages* in order over one connection; see `MllpClient.send`."""
    with MllpClient(host, port, ssl_context=ssl_context, timeout_s=timeout_s) as client:
        return [client.send(message) for message in messages]
