"""What the listener stores and answers: slipped fields tell nothing, and what is not stored is not answered."""

from __future__ import annotations

from datetime import UTC

import pytest

from tests.hl7.messages import make_message
from triage.domain.errors import Unavailable
from triage.listener import Hl7Listener
from triage.ports import Envelope, KeptMessage


class Book:
    """Writes down what it is to keep; *fault* is what the database raises."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.kept: list[tuple[str, str]] = []

    def keep(self, envelope: Envelope, body: bytes, outcome: str, reason: str) -> KeptMessage:
        if self.fault:
            raise self.fault
        self.kept.append((outcome, envelope.kind))
        return KeptMessage(1, outcome, reason, True, body, envelope)

    def accept(self, envelope: Envelope, body: bytes, read: object) -> KeptMessage:
        return self.keep(envelope, body, "applied", "")


def a_listener(book: Book) -> Hl7Listener:
    return Hl7Listener("north", book, UTC, (ConnectionError,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("msh_9", "kept", "code"),
    [
        ("ORM^O01", ("applied", "ORM^O01"), b"MSA|AA"),
        ("ADT^A01", ("rejected", "ADT^A01"), b"MSA|AR"),
        ("ACK", ("rejected", "ACK^"), b"MSA|AR"),
        ("Geheim^Nome", ("rejected", "unknown"), b"MSA|AR"),
        ("ORM^Nome", ("rejected", "unknown"), b"MSA|AR"),
        ("GEH^19440404", ("rejected", "unknown"), b"MSA|AR"),
    ],
)
def test_a_kind_is_kept_only_where_it_is_one(msh_9: str, kept: tuple[str, str], code: bytes) -> None:
    book = Book()
    answer = a_listener(book).on_message(make_message(msh={9: msh_9}), "ris:4711")
    assert book.kept == [kept]
    assert code in answer
    assert not [word for word in (b"Geheim", b"Nome", b"GEH", b"19440404") if word in answer]


@pytest.mark.parametrize("raw", [make_message(), make_message(msh={9: "ADT^A01"}), b"no MSH"])
def test_a_database_that_is_down_is_unavailable_and_its_words_are_not_repeated(raw: bytes) -> None:
    with pytest.raises(Unavailable, match="ConnectionError") as told:
        a_listener(Book(ConnectionError("Geheim"))).on_message(raw, "ris:4711")
    assert "Geheim" not in str(told.value)


def test_any_other_fault_is_the_servers_to_answer() -> None:
    with pytest.raises(KeyError):
        a_listener(Book(KeyError("ours"))).on_message(make_message(), "ris:4711")
