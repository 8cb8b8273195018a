"""The encoding of a recording: detected from its bytes, and converted to UTF-8 while it is read."""

import codecs
import re
from typing import BinaryIO

from ingest.recordings.errors import UnreadableRecording

SAMPLE_SIZE = 256 << 10  # bytes; the file is decoded further only as it is read
ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNDEFINED_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


def detect_encoding(sample: bytes) -> tuple[str, int]:
    """Return (encoding, length of the byte order mark) of a file that begins with `sample`."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding, len(mark)
    zeros = (sample[0:2000:2].count(0), sample[1:2000:2].count(0))
    if max(zeros) > len(sample[:2000]) // 5:  # ASCII characters of UTF-16
        return ("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"), 0
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # the end of the sample may cut a character
    except UnicodeDecodeError:
        return ("latin-1" if _UNDEFINED_IN_CP1252.search(sample) else "cp1252"), 0
    return "utf-8", 0


class Utf8Stream:
    """A binary stream as UTF-8 without a byte order mark, with lines that end with LF or CRLF.

    Text that is not valid in its encoding stays invalid UTF-8, so that only its rows are rejected.
    """

    def __init__(self, file: BinaryIO, encoding: str | None = None) -> None:
        self._file = file
        sample = self._read_sample()
        detected, mark = detect_encoding(sample)
        self.encoding = codecs.lookup(encoding).name if encoding and encoding != "utf-16" else detected
        self._decoder = None
        if self.encoding != "utf-8":
            self._decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        self._cr_only = False
        text = self._convert(sample[mark:])
        self._cr_only = b"\r" in text[:-1] and b"\n" not in text
        self._pending = self._end_lines(text)

    def peek(self) -> bytes:
        """Return the beginning of the converted stream without consuming it."""
        return self._pending

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, and nothing only at the end."""
        while not self._pending and (raw := self._file.read(size)):
            self._pending = self._end_lines(self._convert(raw))
        data, self._pending = self._pending[:size], self._pending[size:]
        return data

    def _read_sample(self) -> bytes:
        parts: list[bytes] = []
        while (missing := SAMPLE_SIZE - sum(map(len, parts))) > 0 and (data := self._file.read(missing)):
            parts.append(data)
        return b"".join(parts)

    def _convert(self, data: bytes) -> bytes:
        if self._decoder is None:
            return data
        return self._decoder.decode(data).encode("utf-8", "surrogatepass")

    def _end_lines(self, data: bytes) -> bytes:
        return data.replace(b"\r", b"\n") if self._cr_only else data


def check_encoding(name: str) -> str:
    """Return a known encoding. Raises UnreadableRecording."""
    try:
        return codecs.lookup(name).name if name != "utf-16" else name
    except LookupError:
        raise UnreadableRecording(
            f"--encoding: {name!r} is unknown; such as {', '.join(ENCODINGS)} is accepted"
        ) from None
