"""Rules for new IDs and names of anything that people or programs name. Pure.

Existing objects keep names that these rules would reject: only new names are checked.
"""

import unicodedata

NAME_LENGTH = 200

# Characters that are not visible, so that two names look alike: besides control characters, line separators and formats
# (zero-width and bidirectional characters), letters and marks without a glyph.
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")


def name_error(name: str) -> str | None:
    """Return why a new name is not accepted; None if it is."""
    if name.isascii() and name.isprintable():
        visible = True
    else:
        visible = all(map(_is_visible, name, "\0" + name))
    if not visible:
        return "control characters, zero-width and other invisible characters are not accepted"
    if name != name.strip():
        return "blanks at the beginning or end are not accepted"
    return None


def id_error(name: str) -> str | None:
    """Return why a new ID is not accepted; None if it is. IDs are parts of URLs."""
    if any(segment in (".", "..") for segment in name.split("/")):
        return "'.' and '..' are not accepted, since browsers remove them from addresses"
    return name_error(name)


def _is_visible(character: str, previous: str) -> bool:
    if "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":
        return unicodedata.category(previous) == "So"  # selects the form of an emoji
    return unicodedata.category(character) not in _INVISIBLE_CATEGORIES and character not in _INVISIBLE_LETTERS
