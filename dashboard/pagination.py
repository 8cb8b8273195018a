"""Pages of lists: one page is read, and whether there is another; nothing is counted."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict

PAGE_SIZE = 50
MAX_OFFSET = 100_000
MAX_TEXT_LENGTH = 200  # of search words and notes


class ListPage(NamedTuple):
    """One page of a list, and the addresses of the first and the next page where there are such."""

    rows: list[Any]
    start: int = 0
    first_url: str = ""
    next_url: str = ""
    size: int = PAGE_SIZE


def offset_of(request: HttpRequest, maximum: int = MAX_OFFSET) -> int:
    """Return the number of rows before the page (`?from=`); 0 where it is no number."""
    return min(to_int(request.GET.get("from", "")), maximum)


def to_int(text: str) -> int:
    """Return a whole number of at most 18 digits; 0 where the text is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def search_of(request: HttpRequest) -> str:
    """Return the search words of the address (`?q=`)."""
    return text_of(request.GET, "q")


def text_of(query: QueryDict, name: str) -> str:
    """Return a short text of an address or a form."""
    return query.get(name, "").replace("\0", "").strip()[:MAX_TEXT_LENGTH]


def paginate(request: HttpRequest, rows: Any) -> ListPage:
    """Return the page of a query set that the request asks for with `?from=`."""
    start = offset_of(request)
    return page_of(request, list(rows[start : start + PAGE_SIZE + 1]), start)


def page_of(request: HttpRequest, rows: Sequence[Any], start: int, size: int = PAGE_SIZE) -> ListPage:
    """Return the page of rows that start at an offset; an extra row beyond `size` gives a next page."""
    first_url = address_of(request, {"from": None}) if start else ""
    next_url = address_of(request, {"from": start + size}) if len(rows) > size else ""
    return ListPage(list(rows[:size]), start, first_url, next_url, size)


def address_of(request: HttpRequest, changes: dict[str, Any]) -> str:
    """Return the query of the request's address with other parameters; None removes one."""
    query = {name: request.GET.getlist(name) for name in request.GET} | changes
    return "?" + urlencode({name: value for name, value in query.items() if value is not None}, doseq=True)
