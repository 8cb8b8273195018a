"""Converters of path parameters, for paths in which an escaped slash is still escaped (see rest.paths)."""

from django.urls.converters import StringConverter

from rest.paths import decode_kept


class IdConverter(StringConverter):
    """An ID that the site assigns: one segment of the path."""

    regex = r"[^/\0]+"

    def to_python(self, value: str) -> str:
        return decode_kept(value)


class NameConverter(IdConverter):
    """A name that people or devices choose. It may contain slashes, also unescaped where the path is unambiguous."""

    regex = r"[^\0]+"
