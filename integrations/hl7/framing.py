"""MLLP blocks: VT, the message, FS, CR (HL7 MLLP release 1). Pure: bytes in, blocks out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

VT, FS, CR = b"\x0b", b"\x1c", b"\x0d"


def frame(message: bytes) -> bytes:
    """Wrap one message."""
    return VT + message + FS + CR


class Kind(Enum):
    """What a run of bytes turned out to be."""

    MESSAGE = "message"
    GARBAGE = "garbage"
    """Outside any frame, or a frame that never ended."""
    OVERSIZED = "oversized"
    """The first bytes of a frame longer than allowed; the rest cannot be told from garbage."""


@dataclass(frozen=True)
class Block:
    """One run of bytes, without framing."""

    kind: Kind
    content: bytes = field(repr=False)


class Deframer:
    """
    Cuts a stream into blocks, whatever the packets.

    A VT inside a frame starts a new one only if `MSH` follows: some senders put vertical tabs into comments. The CR
    after FS may be missing; white space between frames is nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._scanned = 0
        """Bytes of a frame already seen to hold no end, so that a long frame is read once."""
        self._inside = False

    def feed(self, data: bytes) -> list[Block]:
        """Take what arrived; return what is complete, in order."""
        self._buffer += data
        blocks: list[Block] = []
        while True:
            block = self._framed() if self._inside else self._outside()
            if block is None:
                return blocks
            if block.content.strip() or block.kind is Kind.MESSAGE:
                blocks.append(block)

    def rest(self) -> bytes:
        """What was begun and never finished; empties the buffer."""
        rest = bytes(self._buffer).strip()
        self._buffer.clear()
        self._inside, self._scanned = False, 0
        return rest

    def _outside(self) -> Block | None:
        start = self._buffer.find(VT)
        if start < 0:
            return self._take(Kind.GARBAGE, self._max_bytes) if len(self._buffer) > self._max_bytes else None
        garbage = self._take(Kind.GARBAGE, start, skip=1)
        self._inside = True
        return garbage

    def _framed(self) -> Block | None:
        begin = max(0, self._scanned - 3)  # VT M S H may straddle two packets
        end = self._buffer.find(FS, self._scanned)
        restart = self._buffer.find(VT + b"MSH", begin, end if end >= 0 else len(self._buffer))
        if restart >= 0:
            return self._take(Kind.GARBAGE, restart, skip=1)
        if 0 <= end <= self._max_bytes:
            self._inside = False
            return self._take(Kind.MESSAGE, end, skip=1)
        if end >= 0 or len(self._buffer) > self._max_bytes:
            self._inside = False
            return self._take(Kind.OVERSIZED, self._max_bytes)
        self._scanned = len(self._buffer)
        return None

    def _take(self, kind: Kind, length: int, *, skip: int = 0) -> Block:
        content = bytes(self._buffer[:length])
        del self._buffer[: length + skip]
        self._scanned = 0
        return Block(kind, content)
