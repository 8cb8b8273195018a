"""Cells of CSV files: texts that no spreadsheet evaluates, and that are read back unchanged. Pure.

A text that a spreadsheet or a reader would change gets a ' in front: formulas, and texts that begin or end with a
blank. In a column of values, which are not all texts, so do texts that look like another value: numbers, booleans,
JSON, words for a missing value, and the empty text. Reading removes one ' from such a cell. A ' is added in front of
any number of ' too ('=1 becomes ''=1), so that every cell has exactly one meaning.
"""

import re
from dataclasses import dataclass

BOOLEAN_WORDS = ("true", "false")
MISSING_WORDS = ("nan", "null", "none", "n/a", "na", "inf", "infinity")
DELIMITERS = {",": ",", ";": ";", "tab": "\t"}  # by the name that the API accepts

_FORMULA = r"=+\-@＝＋－＠"  # some spreadsheets evaluate the full-width forms too
_WORDS = "|".join(map(re.escape, (*BOOLEAN_WORDS, *MISSING_WORDS)))
# Neither pattern begins with ', so a text is special if and only if it is special with a ' in front.
_SPECIAL_TEXT = re.compile(rf"'*[{_FORMULA}\s]")
_SPECIAL_VALUE = re.compile(
    rf"""'*(?:[{_FORMULA}\s{{\["]|(?:(?:\d+[.,]?\d*|[.,]\d+)(?:e[+-]?\d+)?|{_WORDS}|)\Z)""", re.IGNORECASE
)
_QUOTED = re.compile('[,;"\t\r\n]')  # the same for each delimiter, so that cells do not depend on it


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How a CSV file is written.

    delimiter  between cells
    decimal    separator of numbers, "." or ","; not the delimiter
    bom        begin with a byte order mark, without which Excel does not read UTF-8
    """

    delimiter: str = ","
    decimal: str = "."
    bom: bool = False

    def begin(self, columns: tuple[str, ...]) -> bytes:
        """Return the byte order mark and the header."""
        return ("\ufeff" * self.bom + self.delimiter.join(columns) + "\r\n").encode()

    def number_cell(self, number: bytes) -> bytes:
        """Return the JSON text of a number as a cell."""
        return number if self.decimal == "." else number.replace(b".", b",")


STANDARD = CsvDialect()


def text_cell(text: str | None) -> bytes:
    """Return a text as a cell; an empty cell if there is none."""
    if not text:
        return b""
    return _quoted(f"'{text}" if _is_special(text, _SPECIAL_TEXT) else text)


def value_text_cell(text: str) -> bytes:
    """Return a text as a cell of a column that has other values too."""
    return _quoted(f"'{text}" if _is_special(text, _SPECIAL_VALUE) else text)


def read_text_cell(cell: str) -> str:
    """Return the text that `text_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _is_special(cell, _SPECIAL_TEXT) else cell


def read_marked_text(cell: str) -> str | None:
    """Return the text of a cell of `value_text_cell` that is marked by a '; None for any other cell."""
    return cell[1:] if cell.startswith("'") and _is_special(cell, _SPECIAL_VALUE) else None


def is_plain_text(cell: str) -> bool:
    """Return whether a cell can only be a text, in a column that has other values too."""
    return not _is_special(cell, _SPECIAL_VALUE)


def json_cell(document: bytes) -> bytes:
    """Return a JSON object or array as a cell."""
    return _quoted(document.decode())


def _is_special(text: str, pattern: re.Pattern[str]) -> bool:
    return pattern.match(text) is not None or text[-1:].isspace()


def _quoted(text: str) -> bytes:
    if _QUOTED.search(text):
        text = '"{}"'.format(text.replace('"', '""'))
    return text.encode()
