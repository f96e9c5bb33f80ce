"""
Messages acknowledged per second: our listener beside hl7apy's and python-hl7's, in one run on one machine.

    python benchmarks/mllp.py [--handler package.module:function] [--rounds 5] [--messages 400] [--clients 4]

`--handler` names a function `() -> context manager` that yields an `OnMessage`, say one that stores in PostgreSQL; its
rate is printed beside that of the handler which only acknowledges. Each server gets the same sender: a plain socket
that waits for every answer, and connects anew where the server closes after each (hl7apy; ours is measured both ways).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from uuid import uuid4

import hl7
import hl7.mllp
from hl7apy.mllp import AbstractHandler, MLLPServer

from integrations.hl7.acknowledgement import acknowledgement
from integrations.hl7.framing import CR, FS, frame
from integrations.hl7.header import header
from integrations.hl7.mllp import Address, OnMessage, listening

StartServer = Callable[[], AbstractContextManager[Address]]

MESSAGE = (
    "MSH|^~\\&|RIS|DEMO|TRIAGE|SITE|20260301081500||ORM^O01|{0}|P|2.3.1\r"
    "PID|1||{0}^^^SITE^MR||Doe^Jane||19620314|F\r"
    "ORC|NW|P-{0}|F-{0}||SC||^^^20260301083000^^S\r"
    "OBR|1|P-{0}|F-{0}|36643-5^XR Chest 2 Views^LN||||||||||||||A-{0}^RAD||||||CR\r"
)


def acknowledge(raw: bytes, peer: str) -> bytes:
    """The handler that stores nothing."""
    return acknowledgement(header(raw))


def measure(start_server: StartServer, *, messages: int = 400, clients: int = 4, anew: bool = False) -> float:
    """
    Messages acknowledged per second by the server that *start_server* runs.

    Args:
        clients: senders at once, each waiting for every answer.
        anew: a new connection for each message, for servers that close after one.
    """
    with start_server() as address:
        _send(address, "warm", 3, anew)
        each = messages // clients
        threads = [threading.Thread(target=_send, args=(address, str(n), each, anew)) for n in range(clients)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return each * clients / (time.perf_counter() - began)


def ours(handler: OnMessage = acknowledge) -> AbstractContextManager[Address]:
    """Our listener, as the service runs it."""
    return listening("127.0.0.1", 0, handler)


@contextmanager
def hl7apys() -> Iterator[Address]:
    """hl7apy's threading server with our acknowledgement, so that only the server differs."""

    class Acknowledge(AbstractHandler):  # type: ignore[misc]
        def reply(self) -> str:
            return frame(acknowledge(self.incoming_message.encode(), "")).decode()

    server = MLLPServer("127.0.0.1", 0, {"ORM^O01": (Acknowledge,)})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def python_hl7s() -> Iterator[Address]:
    """python-hl7's asyncio server with its own acknowledgement: it hands over messages already parsed."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    started: list[Address] = []
    ready = threading.Event()

    async def converse(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
        try:
            while True:
                writer.writemessage((await reader.readmessage()).create_ack())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await hl7.mllp.start_hl7_server(converse, "127.0.0.1", 0, encoding="utf-8")
        started.append(server.sockets[0].getsockname())
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait()
    try:
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def _send(address: Address, name: str, count: int, anew: bool) -> None:
    """Send *count* messages, each after the answer to the one before."""
    run = f"{name}{uuid4().hex[:8]}"
    connection: socket.socket | None = None
    for number in range(count):
        control_id = f"{run}-{number}"  # every message is a new order of a new patient, in every round
        if connection is None:
            connection = socket.create_connection(address, timeout=30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(frame(MESSAGE.format(control_id).encode()))
        answer = b""
        while not answer.endswith(FS + CR) and (data := connection.recv(65536)):
            answer += data
        if f"MSA|AA|{control_id}".encode() not in answer:
            raise SystemExit(f"{control_id} was not acknowledged")
        if anew:
            connection.close()
            connection = None
    if connection:
        connection.close()


def main() -> None:
    """Measure each server in turn, round by round, and print medians."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--handler", help="package.module:function, a context manager that yields an OnMessage")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--messages", type=int, default=400)
    arguments.add_argument("--clients", type=int, default=4)
    given = arguments.parse_args()
    module, _, name = (given.handler or "").partition(":")
    with getattr(importlib.import_module(module), name)() if module else nullcontext() as handler:
        servers: dict[str, tuple[StartServer, bool]] = {
            "ours": (ours, False),
            "ours, a connection each": (ours, True),
            "hl7apy, a connection each": (hl7apys, True),
            "python-hl7": (python_hl7s, False),
        }
        if handler:
            servers[f"ours, {given.handler}"] = (partial(ours, handler), False)
        rates: dict[str, list[float]] = {label: [] for label in servers}
        for _ in range(given.rounds):  # in turns, so that a busy minute hits all alike
            for label, (start, anew) in servers.items():
                rates[label].append(measure(start, messages=given.messages, clients=given.clients, anew=anew))
    ours_median = statistics.median(rates["ours"])
    print(f"{given.clients} senders, {given.messages} messages, median (lowest to highest) of {given.rounds} rounds")
    for label, found in rates.items():
        median = statistics.median(found)
        spread = f"({min(found):,.0f} to {max(found):,.0f})"
        print(f"{label:32} {median:8,.0f} messages/s {spread:18} ours is {ours_median / median:.2f} times as fast")


if __name__ == "__main__":
    main()
