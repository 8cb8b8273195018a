"""All routes of the site from the URL configuration, with their parameters filled in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>")
VALUES = {"device_id": "device_001", "metric_name": "temperature", "name": "site a", "key_id": "999999"}


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """A method of a route. `template` has parameter names, `path` has values."""

    template: str
    method: str
    path: str


def all_routes() -> list[Route]:
    """Return all routes except the Django admin and the short prefix of the API.

    Deletions come last, the deepest paths first, so that all other requests find their objects.
    """
    walked = {route for route in _walk(get_resolver(), "/") if not route.template.startswith("/admin/")}
    canonical = {route for route in walked if route.template.startswith("/api/v1/telemetry/")}
    short = {
        route
        for route in walked
        if route.template.replace("/api/v1/", "/api/v1/telemetry/", 1) in _templates(canonical)
    }
    return sorted(walked - (short - canonical), key=_sort_key)


def _sort_key(route: Route) -> tuple[bool, int, Route]:
    is_delete = route.method == "DELETE"
    return is_delete, -route.template.count("/") if is_delete else 0, route


def _templates(selected: set[Route]) -> set[str]:
    return {route.template for route in selected}


def _walk(resolver: URLResolver, prefix: str) -> Iterator[Route]:
    for entry in resolver.url_patterns:
        template = prefix + PARAMETER.sub(r"{\2}", str(entry.pattern))
        if isinstance(entry, URLResolver):
            yield from _walk(entry, template)
        elif isinstance(entry, URLPattern):
            path = fill_parameters(template, entry)
            for method in _methods(entry.callback):
                yield Route(template, method, path)


def fill_parameters(template: str, entry: URLPattern) -> str:
    kinds = {name: kind for kind, name in PARAMETER.findall(str(entry.pattern))}

    def parameter_value(match: "re.Match[str]") -> str:
        name = match[1]
        return VALUES.get(name) or ("1" if kinds.get(name) == "int" else "nothing")

    return re.sub(r"{(\w+)}", parameter_value, template).replace(" ", "%20")


def handlers(view: Any) -> dict[str, Any]:
    """Return the handlers of a view of the API by method, such as {"GET": …}; none for a page."""
    cls = getattr(view, "cls", None)
    actions = getattr(view, "actions", None) or {method: method for method in getattr(cls, "http_method_names", ())}
    names = {method: actions.get(method.lower(), "") for method in METHODS}
    return {method: getattr(cls, name) for method, name in names.items() if hasattr(cls, name)}


def _methods(view: Any) -> list[str]:
    """Return the methods of a view; pages support GET."""
    return list(handlers(view)) if hasattr(view, "cls") else ["GET"]
