"""The listener on a real socket: framing, order, limits, failures, stopping; beside python-hl7's client."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hl7.client
import pytest
from hl7apy.mllp import AbstractHandler, MLLPServer

from integrations.hl7.acknowledgement import acknowledgement
from integrations.hl7.client import Answer, MllpClient, answered, send
from integrations.hl7.framing import Block, Deframer, Kind, frame
from integrations.hl7.header import header
from integrations.hl7.mllp import Address, listening
from tests.hl7.messages import make_message, sample
from triage.domain.errors import Unavailable


@dataclass
class Store:
    """Stands for the table of inbound messages."""

    messages: list[bytes] = field(default_factory=list)
    garbage: list[bytes] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def keep(self, raw: bytes, peer: str) -> bytes:
        head = header(raw)
        if head.control_id == "FAIL":
            raise RuntimeError("Doe^Jane could not be stored")
        if head.control_id == "WAIT":
            self.entered.release()
            self.gate.wait(5)
        self.messages.append(raw)
        self.peers.add(peer)
        return acknowledgement(head)

    def keep_garbage(self, raw: bytes, peer: str) -> None:
        self.garbage.append(raw)


@contextmanager
def a_listener(**options: Any) -> Iterator[tuple[Store, Address]]:
    store = Store()
    with listening("127.0.0.1", 0, store.keep, on_garbage=store.keep_garbage, **options) as address:
        yield store, address


def numbered(number: object) -> bytes:
    return make_message(msh={10: str(number)})


def answers_from(peer: socket.socket, count: int) -> list[Answer]:
    """Read until *count* answers came or the listener closed."""
    peer.settimeout(5)
    deframer, found = Deframer(2**20), []
    while len(found) < count and (data := peer.recv(4096)):
        found += [answered(block.content) for block in deframer.feed(data)]
    return found


def eventually(claim: Any) -> None:
    deadline = time.monotonic() + 5
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_many_messages_on_one_connection_are_answered_in_order() -> None:
    sent = [numbered(number) for number in range(200)]
    with a_listener(workers=4) as (store, address):
        answers = send(*address, sent)
    assert [answer.control_id for answer in answers] == [str(number) for number in range(200)]
    assert all(answer.accepted for answer in answers)
    assert store.messages == sent


def test_bytes_arrive_as_sent_whatever_their_charset() -> None:
    raw = sample("orm_japanese_iso_2022.hl7")
    with a_listener() as (store, address):
        send(*address, [raw])
    assert store.messages == [raw]


def test_connections_are_served_side_by_side() -> None:
    with a_listener(workers=2) as (store, address), MllpClient(*address) as slow, MllpClient(*address) as quick:
        waiting = threading.Thread(target=slow.send, args=(numbered("WAIT"),))
        waiting.start()
        assert store.entered.acquire(timeout=5)
        assert quick.send(numbered(1)).accepted
        store.gate.set()
        waiting.join()
    assert len(store.peers) == 2


def test_frames_sent_together_before_any_answer_are_handled_in_order() -> None:
    with a_listener(workers=4) as (_store, address), socket.create_connection(address) as peer:
        peer.sendall(b"".join(frame(numbered(number)) for number in range(20)))
        answers = answers_from(peer, 20)
    assert [answer.control_id for answer in answers] == [str(number) for number in range(20)]


def test_a_frame_sent_byte_by_byte_is_one_message() -> None:
    with a_listener() as (_store, address), socket.create_connection(address) as peer:
        for byte in frame(numbered(1)):
            peer.sendall(bytes([byte]))
        assert answers_from(peer, 1)[0].control_id == "1"


def test_garbage_before_a_frame_is_kept_and_the_frame_answered() -> None:
    with a_listener() as (store, address), socket.create_connection(address) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n" + frame(numbered(1)))
        assert answers_from(peer, 1)[0].accepted
    assert store.garbage == [b"GET / HTTP/1.1\r\n\r\n"]


def test_a_frame_cut_off_by_the_peer_is_kept() -> None:
    with a_listener() as (store, address):
        with socket.create_connection(address) as peer:
            peer.sendall(b"\x0b" + numbered(1)[:50])
        eventually(lambda: store.garbage)
    assert store.garbage == [numbered(1)[:50]]
    assert store.messages == []


def test_bytes_without_a_frame_are_kept() -> None:
    with a_listener() as (store, address):
        with socket.create_connection(address) as peer:
            peer.sendall(numbered(1))
        eventually(lambda: store.garbage)
    assert store.garbage == [numbered(1).strip()]


def test_a_failing_handler_is_answered_ae_and_the_connection_lives(caplog: pytest.LogCaptureFixture) -> None:
    with a_listener() as (_store, address), MllpClient(*address) as client:
        failed = client.send(numbered("FAIL"))
        assert (failed.code, failed.control_id, failed.condition) == ("AE", "FAIL", "207")
        assert client.send(numbered(2)).accepted
    assert "Doe" not in caplog.text + failed.raw.decode()
    assert "RuntimeError" in caplog.text


def test_a_message_that_cannot_be_stored_now_is_not_answered_and_the_connection_ends() -> None:
    def keep(raw: bytes, peer: str) -> bytes:
        if header(raw).control_id == "AWAY":
            raise Unavailable("PostgreSQL: OperationalError")
        return acknowledgement(header(raw))

    with listening("127.0.0.1", 0, keep) as address, socket.create_connection(address) as peer:
        peer.sendall(frame(numbered(1)) + frame(numbered("AWAY")) + frame(numbered(2)))
        assert [answer.control_id for answer in answers_from(peer, 3)] == ["1"], "the sender keeps the other two"


def test_a_sender_that_wants_no_answer_gets_none() -> None:
    with a_listener() as (store, address), socket.create_connection(address) as peer:
        peer.sendall(frame(make_message(msh={10: "quiet", 15: "NE", 16: "NE"})) + frame(numbered(2)))
        assert answers_from(peer, 1)[0].control_id == "2"
    assert len(store.messages) == 2


def test_a_frame_without_a_message_is_answered_too() -> None:
    with a_listener() as (_store, address), socket.create_connection(address) as peer:
        peer.sendall(frame(b"hello") + frame(numbered(1)))
        refused, accepted = answers_from(peer, 2)
    assert (refused.code, refused.control_id) == ("AE", "")
    assert accepted.accepted


def test_an_oversized_message_is_answered_ar_and_the_connection_closed() -> None:
    with a_listener(max_bytes=500) as (store, address), socket.create_connection(address) as peer:
        peer.sendall(b"\x0b" + numbered(1) + b"x" * 600)
        answers = answers_from(peer, 2)
    assert [(answer.code, answer.control_id) for answer in answers] == [("AR", "1")]
    assert store.messages == []
    assert store.garbage[0].startswith(b"MSH")


def test_a_sender_still_sending_hears_that_its_message_is_too_long() -> None:
    with a_listener(max_bytes=500) as (store, address), socket.create_connection(address) as peer:
        peer.sendall(b"\x0b" + numbered(1) + b"x" * 8_000_000)
        assert [answer.code for answer in answers_from(peer, 2)] == ["AR"]
    assert store.messages == []


@pytest.mark.parametrize("begun", [b"", b"\x0bMSH|half"])
def test_an_idle_connection_is_closed(begun: bytes) -> None:
    with a_listener(idle_s=0.2) as (store, address), socket.create_connection(address) as peer:
        peer.sendall(begun)
        peer.settimeout(5)
        assert peer.recv(1) == b""
    assert store.garbage == ([begun[1:]] if begun else [])


def test_a_trickle_that_completes_nothing_counts_as_idle() -> None:
    with a_listener(idle_s=0.3) as (store, address), socket.create_connection(address) as peer:
        began = time.monotonic()
        peer.sendall(b"\x0bMSH")
        with pytest.raises(OSError):
            while time.monotonic() < began + 5:
                peer.sendall(b"x")
                time.sleep(0.05)
    assert time.monotonic() < began + 4
    eventually(lambda: store.garbage)


def test_one_connection_too_many_is_closed_and_the_others_go_on() -> None:
    with a_listener(max_connections=1) as (_store, address), MllpClient(*address) as first:
        assert first.send(numbered(1)).accepted
        with socket.create_connection(address) as second:
            second.settimeout(5)
            assert second.recv(1) == b""
        assert first.send(numbered(2)).accepted


def test_stopping_lets_the_message_in_hand_be_answered() -> None:
    store, got = Store(), []
    with listening("127.0.0.1", 0, store.keep, on_garbage=store.keep_garbage) as address:
        idle = socket.create_connection(address)
        client = MllpClient(*address)
        waiting = threading.Thread(target=lambda: got.append(client.send(numbered("WAIT"))))
        waiting.start()
        assert store.entered.acquire(timeout=5)
        threading.Timer(0.2, store.gate.set).start()
    waiting.join()
    client.close()
    idle.settimeout(5)
    assert idle.recv(1) == b""
    idle.close()
    assert got[0].accepted
    with pytest.raises(Unavailable, match="connecting"):
        send(*address, [numbered(1)])


def test_a_listener_that_cannot_listen_says_so() -> None:
    with a_listener() as (_, (host, port)), pytest.raises(OSError), listening(host, port, Store().keep):
        pass


def test_a_peer_that_leaves_before_its_answer_troubles_nobody() -> None:
    with a_listener() as (store, address):
        peer = socket.create_connection(address)
        peer.sendall(frame(numbered("WAIT")))
        assert store.entered.acquire(timeout=5)
        peer.close()
        store.gate.set()
        assert send(*address, [numbered(2)])[0].accepted
    assert len(store.messages) == 2


def test_python_hl7s_client_is_answered_many_times_on_one_connection() -> None:
    with a_listener() as (store, (host, port)), hl7.client.MLLPClient(host, port) as client:
        for number in range(50):
            assert f"MSA|AA|{number}\r".encode() in client.send_message(numbered(number))
    assert len(store.messages) == 50


def test_our_sender_copes_with_a_receiver_that_closes_after_each_answer() -> None:
    class Acknowledge(AbstractHandler):  # type: ignore[misc]
        def reply(self) -> str:
            return frame(acknowledgement(header(self.incoming_message.encode()))).decode()

    with MLLPServer("127.0.0.1", 0, {"ORM^O01": (Acknowledge,)}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with MllpClient(*server.server_address) as client:
            for number in range(3):
                assert client.send(numbered(number)).accepted
                time.sleep(0.05)
        server.shutdown()
        thread.join()


def test_messages_pass_through_tls(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("no openssl program: TLS is left out")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    extension = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *made, *extension], check=True, capture_output=True)
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(certificate, key)
    theirs = ssl.create_default_context(cafile=str(certificate))
    with a_listener(ssl_context=ours) as (store, address):
        answers = send(*address, [numbered(number) for number in range(5)], ssl_context=theirs)
        with pytest.raises(Unavailable):
            send(*address, [numbered(6)], ssl_context=ssl.create_default_context())
        with pytest.raises(Unavailable):
            send(*address, [numbered(7)], timeout_s=1)
        assert send(*address, [numbered(8)], ssl_context=theirs)[0].accepted
    assert [answer.control_id for answer in answers] == ["0", "1", "2", "3", "4"]
    assert len(store.messages) == 6


@contextmanager
def a_receiver(*answers: bytes) -> Iterator[Address]:
    """A peer that reads once and then says *answers*, whatever was sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"".join(answers))
                peer.settimeout(3)
                peer.recv(1)

        thread = threading.Thread(target=run)
        thread.start()
        yield server.getsockname()
        thread.join()


def test_a_late_answer_is_not_taken_for_the_next_messages() -> None:
    late, right = (frame(acknowledgement(header(numbered(number)))) for number in (1, 2))
    with a_receiver(late, right) as address, MllpClient(*address) as client:
        assert client.send(numbered(2)).control_id == "2"
    with a_receiver(late) as address, pytest.raises(Unavailable, match="waiting"):
        send(*address, [numbered(2)], timeout_s=0.2)


@pytest.mark.parametrize("answer", [b"MSH|^~\\&|||||||ACK|1|P|2.5\r", b"hello"])
def test_an_answer_that_confirms_nothing_counts_as_none(answer: bytes) -> None:
    with a_receiver(frame(answer)) as address, pytest.raises(Unavailable, match="waiting"):
        send(*address, [numbered(2)])


MESSAGE, GARBAGE, OVERSIZED = Kind.MESSAGE, Kind.GARBAGE, Kind.OVERSIZED


@pytest.mark.parametrize(
    ("stream", "blocks", "rest"),
    [
        (b"\x0bMSH|a\x1c\r", [(MESSAGE, b"MSH|a")], b""),
        (b"\x0bMSH|a\x1c\x0bMSH|b\x1c", [(MESSAGE, b"MSH|a"), (MESSAGE, b"MSH|b")], b""),
        (b"\x0bMSH|a\x1c\n\r\n\x0bMSH|b\x1c\r", [(MESSAGE, b"MSH|a"), (MESSAGE, b"MSH|b")], b""),
        (b"x\x0bA\x1c\ry\x0bB\x1c\rz", [(GARBAGE, b"x"), (MESSAGE, b"A"), (GARBAGE, b"\ry"), (MESSAGE, b"B")], b"z"),
        (b"\x0bMSH|cut\x0bMSH|b\x1c\r", [(GARBAGE, b"MSH|cut"), (MESSAGE, b"MSH|b")], b""),
        (b"\x0bMSH|a\x0bline\x1c\r", [(MESSAGE, b"MSH|a\x0bline")], b""),
        (b"\x0b\x1c\r", [(MESSAGE, b"")], b""),
        (b"\x0bMSH|cut", [], b"MSH|cut"),
        (b"\x0b" + b"M" * 40 + b"\x1c\r", [(MESSAGE, b"M" * 40)], b""),
        (b"\x0b" + b"M" * 41, [(OVERSIZED, b"M" * 40)], b"M"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_a_stream_is_cut_alike_however_it_is_packed(
    stream: bytes, blocks: list[tuple[Kind, bytes]], rest: bytes, step: int
) -> None:
    deframer = Deframer(40)
    found = [block for at in range(0, len(stream), step) for block in deframer.feed(stream[at : at + step])]
    assert found == [Block(kind, content) for kind, content in blocks]
    assert deframer.rest() == rest
