"""
The MLLP listener: many messages a connection, strictly in order; each answered once its handler has returned.

hl7apy's server takes one message a connection, python-hl7's decodes before it knows the charset, and both answer an
exception by closing the socket (STANDARDS 4.3). Here a sender always hears: stored, refused, or that we failed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypedDict, Unpack

from integrations.hl7.acknowledgement import Verdict, refusal
from integrations.hl7.framing import Block, Deframer, Kind, frame
from triage.domain.errors import Unavailable

log = logging.getLogger(__name__)

OnMessage = Callable[[bytes, str], bytes]
"""Message and peer to acknowledgement, unframed, b"" for none. Stores before it returns; runs in a thread."""

OnGarbage = Callable[[bytes, str], None]
"""Bytes that were no message, and the peer; stores them, so that nothing that reached us is lost."""

Address = tuple[str, int]


class Options(TypedDict, total=False):
    """What `MllpServer` takes besides the handler."""

    on_garbage: OnGarbage | None
    ssl_context: ssl.SSLContext | None
    max_bytes: int
    idle_s: float
    workers: int
    max_connections: int
    grace_s: float


class MllpServer:
    """
    One listening socket.

    Args:
        on_message: see `OnMessage`; an exception from it is answered AE, and the connection goes on; `Unavailable` is
            not answered and ends the connection.
        on_garbage: see `OnGarbage`; called for bytes outside frames, truncated frames and the head of oversized ones.
        max_bytes: the longest message; one byte more is answered AR and the connection closed.
        idle_s: how long a connection may go without completing a message; also the longest wait for a peer to read.
        workers: threads that run handlers, so at most as many messages are in hand at once.
        max_connections: further ones are closed as they come.
        grace_s: how long `stop` waits for messages in hand.
    """

    def __init__(
        self,
        on_message: OnMessage,
        *,
        on_garbage: OnGarbage | None = None,
        ssl_context: ssl.SSLContext | None = None,
        max_bytes: int = 4 * 2**20,
        idle_s: float = 300,
        workers: int = 4,
        max_connections: int = 100,
        grace_s: float = 10,
    ) -> None:
        self._on_message = on_message
        self._on_garbage = on_garbage
        self._ssl_context = ssl_context
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._max_connections = max_connections
        self._grace_s = grace_s
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mllp")
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        """Connections with no message in hand: these may be closed at any moment."""
        self._server: asyncio.Server | None = None
        self._stopping = False

    async def start(self, host: str, port: int) -> Address:
        """Listen; port 0 takes a free one. Returns the address listened on."""
        tls: dict[str, Any] = {"ssl_handshake_timeout": 10, "ssl_shutdown_timeout": 2} if self._ssl_context else {}
        self._server = await asyncio.start_server(
            self._connected, host, port, ssl=self._ssl_context, backlog=128, **tls
        )
        address = self._server.sockets[0].getsockname()
        log.info("mllp: listening on port %s", address[1])
        return address[0], address[1]

    async def stop(self) -> None:
        """Accept no more, let messages in hand be answered, close."""
        self._stopping = True
        if self._server:
            self._server.close()
        for connection in set(self._waiting):
            connection.cancel()
        if self._connections:
            _, late = await asyncio.wait(set(self._connections), timeout=self._grace_s)
            for connection in late:
                connection.cancel()
            if late:
                log.warning("mllp: %s connections closed before their answer", len(late))
                await asyncio.wait(late, timeout=1)
        self._pool.shutdown(wait=False)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _peer(writer)
        task = asyncio.current_task()
        assert task is not None
        if self._stopping or len(self._connections) >= self._max_connections:
            log.warning("mllp: connection refused, %s are open", len(self._connections))
            writer.close()
            return
        self._connections.add(task)
        deframer = Deframer(self._max_bytes)
        try:
            await self._converse(reader, writer, deframer, peer)
        except (OSError, TimeoutError, asyncio.CancelledError) as exc:  # ours to close, or closed by the peer
            log.info("mllp: connection ended, %s", type(exc).__name__)
        finally:
            self._waiting.discard(task)
            writer.close()
            try:
                await self._discard(deframer.rest(), peer)
            finally:
                self._connections.discard(task)
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, deframer: Deframer, peer: str
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._idle_s
        while not self._stopping:
            self._waiting.add(task)
            async with asyncio.timeout_at(deadline):
                data = await reader.read(65536)
            self._waiting.discard(task)
            if not data:
                return
            for block in deframer.feed(data):
                if self._stopping:
                    return
                if not await self._handle(block, writer, peer):
                    return await _hang_up(reader, writer)
                deadline = loop.time() + self._idle_s

    async def _handle(self, block: Block, writer: asyncio.StreamWriter, peer: str) -> bool:
        """One block; says whether the conversation goes on."""
        if block.kind is Kind.GARBAGE:
            await self._discard(block.content, peer)
            return len(block.content) < self._max_bytes
        if block.kind is Kind.OVERSIZED:
            log.warning("mllp: message over %s bytes refused", self._max_bytes)
            await self._discard(block.content, peer)
            answer = refusal(block.content, Verdict.REJECT, condition="207", text="message too long")
        else:
            try:
                answer = await self._answer(block.content, peer)
            except Unavailable:
                return False
        if answer:
            writer.write(frame(answer))
            async with asyncio.timeout(self._idle_s):
                await writer.drain()
        return block.kind is Kind.MESSAGE

    async def _answer(self, message: bytes, peer: str) -> bytes:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._on_message, message, peer)
        except Unavailable:
            log.error("mllp: not stored; hanging up without an answer, so that the sender keeps the message")
            raise
        except Exception as exc:  # the loop must live; the text may name a patient, so only the type is logged
            log.error("mllp: handler failed, %s", type(exc).__name__)
            return refusal(message, Verdict.ERROR, condition="207", text="not stored, send again")

    async def _discard(self, garbage: bytes, peer: str) -> None:
        if not garbage:
            return
        log.warning("mllp: %s bytes that are no message", len(garbage))
        if self._on_garbage is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._on_garbage, garbage, peer)
        except Exception as exc:  # as in _answer
            log.error("mllp: garbage not kept, %s", type(exc).__name__)


async def serve(
    host: str,
    port: int,
    on_message: OnMessage,
    *,
    on_listening: Callable[[Address], None] = lambda address: None,
    stop: asyncio.Event | None = None,
    **options: Unpack[Options],
) -> None:
    """
    Listen until *stop* is set or the task is cancelled, then end gracefully.

    Args:
        on_listening: told the address once connections are accepted; of use with port 0.
        options: see `MllpServer`.
    """
    server = MllpServer(on_message, **options)
    try:
        on_listening(await server.start(host, port))
        await (stop or asyncio.Event()).wait()
    finally:
        await server.stop()


@contextmanager
def listening(host: str, port: int, on_message: OnMessage, **options: Unpack[Options]) -> Iterator[Address]:
    """`serve` in a thread of its own, for callers without an event loop; yields the address, stops on leaving."""
    started: Future[Address] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        try:
            loop.run_until_complete(
                serve(host, port, on_message, on_listening=started.set_result, stop=stop, **options)
            )
        except Exception as exc:  # it belongs to whoever waits for the address
            started.set_exception(exc)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=run, name="mllp-listener")
    thread.start()
    try:
        yield started.result()
    finally:
        with suppress(RuntimeError):  # the loop is closed already where it could not listen
            loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let a peer that is still sending read our answer: closing over unread bytes would reset the connection first."""
    if writer.can_write_eof():
        writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            while await reader.read(65536):
                pass


def _peer(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if name else "unknown"
