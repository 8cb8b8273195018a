"""OpenAPI 3.1 description of the API: the decorator `@operation(...)` for views, and the parts that operations share.

drf-spectacular generates the document. All errors have the same body, so responses of 400 and above, and 304, are
described once, as components, and referred to by their status.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar, cast

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import force_instance
from drf_spectacular.utils import Direction, OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers

from rest.names import NAME_LENGTH
from rest.problem import problem
from rest.unknown_names import reject_unknown_parameters

F = TypeVar("F", bound=Callable[..., Any])
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
_EXAMPLE = "Example"
SHARED_RESPONSE = object()  # placeholder: the response is a component of SHARED_RESPONSES


class Tag(Enum):
    """Chapters of the API in their order: name and description."""

    INGESTION = "Ingestion", "Send points: one, a batch of one device, or batches of many devices."
    DEFINITIONS = "Metric definitions", "Type, unit, bounds and retention of metrics."
    QUERIES = "Queries", "Read points: latest values, ranges and aggregations."
    DEVICES = "Devices", "Devices and device groups."
    COLLECTORS = "Collectors", "Collectors that the site runs, and the journal of their collections."
    ALERTS = "Alerts", "Alert rules, alerts, notifications and silences."
    STATUS_PAGES = "Status pages", "Public status pages, their components, incidents and planned maintenance."
    STREAMING = "Streaming", "Live streams of points."
    STATISTICS = "Statistics and health", "Statistics of devices and of the service, and health checks."
    EXPORT = "Export", "Export points as files."
    ACCESS = "Access", "API keys and tokens."
    AUDIT = "Audit", "Log of changes."
    EVENTS = "Event bus", "Messages of the event bus that could not be processed or delivered."


# Responses without a body of their own: status, name of the component, description.
SHARED_RESPONSES = {
    304: ("NotModified", "The state named in `If-None-Match` is current."),
    400: (
        "BadRequest",
        "The request cannot be read, a required value is missing, or a value is not accepted by itself; `errors` names"
        " the fields and what is accepted.",
    ),
    401: ("Unauthorized", "The request has no valid API key, token or session."),
    403: ("Forbidden", "The caller lacks the required scope or access to the device."),
    404: ("NotFound", "The object does not exist or is not visible to the caller."),
    409: ("Conflict", "The state of the object does not allow the action."),
    410: ("Gone", "The result has expired."),
    412: (
        "PreconditionFailed",
        "The object has changed since the ETag in `If-Match` was read, or the revision in `Telemetry-Min-Revision` is"
        " not reached.",
    ),
    413: ("ContentTooLarge", "The body is too large, compressed or decompressed."),
    415: ("UnsupportedMediaType", "The Content-Type or Content-Encoding of the body is not supported."),
    422: (
        "UnprocessableContent",
        "Each value is accepted by itself, but not together with the others or with what is stored; a parameter or"
        " field is unknown; or a limit is exceeded. `errors` names the fields and what is accepted.",
    ),
    428: ("PreconditionRequired", "The change requires the header `If-Match`."),
    429: ("TooManyRequests", "Too many requests: retry after `Retry-After` seconds."),
    503: ("ServiceUnavailable", "The database is unavailable or a queue is full: retry after `Retry-After` seconds."),
}
_HEADERS = {
    304: {"ETag": "State that the caller has."},
    401: {"WWW-Authenticate": "Supported authentication schemes."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}
_PATH: dict[str, tuple[str, dict[str, Any], Any]] = {  # path parameter: (description, schema, example)
    "device_id": ("Device ID.", {"maxLength": NAME_LENGTH}, "device_001"),
    "metric_name": ("Metric name.", {"maxLength": NAME_LENGTH}, "temperature"),
    "key_id": ("Number of the API key.", {"minimum": 1}, 7),
    "name": ("Name of the device group.", {"maxLength": NAME_LENGTH}, "site a"),
    "deletion_id": ("Deletion ID.", {}, "del_0123456789abcdef0123"),
    "number": ("Number of the row.", {"minimum": 1}, 7),
    "snapshot_id": ("Snapshot ID.", {}, "snap_0123456789abcdef0123"),
    "export_id": ("Export ID.", {}, "exp_0123456789abcdef0123"),
    "subscription_id": ("Subscription ID.", {}, "sub_dGVsZW1ldHJ5LWxpdmUtMDEy"),
    "rule_id": ("Alert rule ID.", {}, "rule_0123456789abcdef"),
    "version": ("Version number.", {"minimum": 1}, 1),
    "alert_id": ("Alert ID.", {}, "alt_0123456789abcdef"),
    "silence_id": ("Silence ID.", {}, "sil_0123456789abcdef"),
    "channel_id": ("Channel ID.", {}, "chn_0123456789abcdef"),
    "collector_id": ("Collector ID.", {}, "col_0123456789abcdef"),
    "route_id": ("Route ID.", {}, "rte_0123456789abcdef"),
    "page_id": ("Status page ID.", {}, "page_0123456789abcdef"),
    "component_id": ("ID of a component of a status page.", {}, "cmp_0123456789abcdef"),
    "incident_id": ("ID of an incident or maintenance of a status page.", {}, "sin_0123456789abcdef"),
}


_METHODS = {  # HTTP methods of the standard actions; other actions of a resource are POST
    **{method: method for method in ("get", "post", "put", "patch", "delete")},
    "list": "get",
    "create": "post",
    "retrieve": "get",
    "partial_update": "patch",
    "update": "put",
    "destroy": "delete",
}


def operation(
    name: str,
    summary: str,
    *,
    tag: Tag,
    description: str,
    response: Any,
    status: int = 200,
    media_types: Sequence[str] = (JSON,),
    request: Any = None,
    query: type[serializers.Serializer[Any]] | None = None,
    parameters: Sequence[OpenApiParameter | type[serializers.Serializer[Any]]] = (),
    errors: Sequence[int] = (),
    also: dict[int, Any] | None = None,
    request_example: Any = None,
    response_example: Any = None,
    etag: bool = False,
    public: bool = False,
    any_query: bool = False,
    deprecated: bool = False,
) -> Callable[[F], F]:
    """Describe a method of a view, and reject query parameters that the description does not have.

    name              operation ID: a verb and a noun in snake case
    response          body of success: a serializer (class, or instance with many=True) or a JSON schema; None: no body
    request           request body, likewise
    query             serializer of the query parameters; `parameters` are filters, headers and others
    errors            statuses besides the implied ones: 401, 403, 422, 429 and 503 unless it is public, 400 with
                      parameters or a body, 413 and 415 with a body, 304 or 412 with an ETag
    also              responses of other statuses, with a body of their own
    request_example   example of the body, or {parameter: value} without a body
    response_example  example of the response body
    etag              has an ETag: GET supports If-None-Match, changes support If-Match
    public            needs no authentication
    deprecated        an old address that leads to its successor
    any_query         ignores unknown query parameters: devices in the field may append their own to what they send
    """
    accepted = None if public or any_query else _parameter_names(query, parameters)

    def describe(method: F) -> F:
        method_name, repeatable = _METHODS.get(method.__name__, "post"), hasattr(method, "idempotent")
        statuses = {*errors} | (set() if public else {401, 403, 429, 503})
        statuses |= {400} if query or parameters or request else set()
        statuses |= set() if accepted is None else {422}
        statuses |= {413, 415} if request else set()
        statuses |= {400, 409, 422} if repeatable else set()
        statuses |= {"get": {304}, "post": set()}.get(method_name, {412}) if etag else set()
        documented = extend_schema(
            operation_id=name,
            deprecated=deprecated,
            summary=summary,
            description=description,
            tags=[tag.value[0]],
            parameters=[
                *([query] if query else ()),
                *parameters,
                *(_etag(method_name, status) if etag else ()),
                *(_IDEMPOTENCY_KEY if repeatable else ()),
            ],
            request=request,
            responses={(status, *media_types): response}
            | dict.fromkeys(sorted(statuses), SHARED_RESPONSE)
            | (also or {}),
            examples=list(_examples(request, request_example, response_example, media_types[0])),
        )
        return documented(_reject_unknown_parameters(method, accepted))

    return describe


def _reject_unknown_parameters(method: F, accepted: Sequence[str] | None) -> F:
    """Return the method of a view, which rejects other query parameters than these; None accepts all."""

    @wraps(method)
    def checked(view: Any, request: Any, *arguments: Any, **names: Any) -> Any:
        if accepted is not None:
            reject_unknown_parameters(request.query_params, accepted)
        return method(view, request, *arguments, **names)

    checked.kwargs = dict(getattr(method, "kwargs", {}))  # type: ignore[attr-defined]  # drf-spectacular's
    return cast(F, checked)


def _parameter_names(query: Any, parameters: Sequence[Any]) -> list[str]:
    """Return the names of all query parameters of an operation."""
    names: list[str] = []
    for parameter in [*([query] if query else ()), *parameters]:
        if isinstance(parameter, OpenApiParameter):
            names += [parameter.name] if parameter.location == OpenApiParameter.QUERY else []
        else:
            names += force_instance(parameter).fields
    return names


def etag_header(status: int = 200) -> OpenApiParameter:
    """Describe the ETag of a response that also has live values, so that it is for If-Match alone."""
    meaning = "State of the configuration, for If-Match."
    return OpenApiParameter("ETag", location="header", description=meaning, required=True, response=[status])


def _examples(request: Any, request_example: Any, response_example: Any, media_type: str) -> Iterator[OpenApiExample]:
    if request_example is not None and request is not None:
        sent_as = next(iter(request)) if isinstance(request, dict) and "/" in next(iter(request)) else JSON
        yield OpenApiExample(_EXAMPLE, request_example, request_only=True, media_type=sent_as)
    elif request_example is not None:
        for name, value in request_example.items():
            yield OpenApiExample(_EXAMPLE, value, parameter_only=(name, "query"))
    if response_example is not None:
        codes = [str(code) for code in range(200, 300)]
        yield OpenApiExample(_EXAMPLE, response_example, response_only=True, media_type=media_type, status_codes=codes)


IF_MATCH = OpenApiParameter(
    "If-Match", location="header", description="ETag of the state to change; without it, any state is changed."
)


def _etag(method: str, status: int) -> Iterator[OpenApiParameter]:
    if method == "get":
        yield OpenApiParameter("If-None-Match", location="header", description="ETags that the caller has.")
    elif method != "post":
        yield IF_MATCH
    if method != "delete":
        meaning = "State of the object, for If-Match and If-None-Match."
        yield OpenApiParameter("ETag", location="header", description=meaning, required=True, response=[status])


_IDEMPOTENCY_KEY = (
    OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x20-\x7e]+$"},
        location="header",
        description="A request repeated with the same key within 24 hours is executed once and gets the same response."
        " Another request with that key gets 422; a repetition while the first request is running gets 409.",
    ),
)


class Operation(AutoSchema):
    """drf-spectacular's description of a view, with the conventions of this API."""

    def _get_response_for_code(
        self, serializer: Any, status_code: str, media_types: Any = None, direction: Direction = "response"
    ) -> dict[str, Any]:
        if serializer is SHARED_RESPONSE:
            return {"$ref": f"#/components/responses/{SHARED_RESPONSES[int(status_code)][0]}"}
        described = super()._get_response_for_code(serializer, status_code, media_types, direction)
        return described | {"description": described["description"] or HTTPStatus(int(status_code)).phrase}

    def _get_request_for_media_type(self, serializer: Any, direction: Direction = "request") -> tuple[Any, bool]:
        schema, is_required = super()._get_request_for_media_type(serializer, direction)
        return schema, is_required or isinstance(serializer, dict)

    def _resolve_path_parameters(self, variables: list[str]) -> list[dict[str, Any]]:
        parameters = super()._resolve_path_parameters(variables)
        for parameter in parameters:
            if parameter["name"] in _PATH:
                parameter["description"], constraints, example = _PATH[parameter["name"]]
                parameter["schema"] |= constraints
                parameter["examples"] = {_EXAMPLE: {"value": example}}
        return parameters

    def _get_parameters(self) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super()._get_parameters()
        for parameter in parameters:
            if parameter["in"] == "query":
                parameter["schema"] = _without_null(parameter["schema"])
        return parameters

    def _map_basic_serializer(self, serializer: Any, direction: Direction) -> dict[str, Any]:
        """Mark all fields of a row in a response as required, including those that are optional in requests."""
        schema: dict[str, Any] = super()._map_basic_serializer(serializer, direction)
        if direction == "response" and isinstance(force_instance(serializer), serializers.ModelSerializer):
            schema["required"] = sorted(schema["properties"])
        return schema


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove null from the schema of a query parameter: the parameter is omitted instead."""
    kept = {name: value for name, value in schema.items() if not (name == "default" and value is None)}
    if isinstance(kept.get("type"), list):
        [kept["type"]] = [member for member in kept["type"] if member != "null"]
    if "oneOf" in kept:
        kept["oneOf"] = [member for member in kept["oneOf"] if member != {"type": "null"}]
    return kept


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the chapters and the shared error responses; a postprocessing hook of drf-spectacular."""
    _remove_enum_ids(result)
    operations = [operation for path in result["paths"].values() for operation in path.values()]
    chapters = {name for operation in operations for name in operation["tags"]}
    used_tags = [tag.value for tag in Tag if tag.value[0] in chapters]
    result["tags"] = [{"name": name, "description": description} for name, description in used_tags]
    components = result["components"]
    components["parameters"] = {"MinRevision": _MIN_REVISION}
    components["headers"] = {"Revision": _REVISION}
    for operation in operations:
        if "401" in operation["responses"]:  # not public
            _describe_revision(operation)
    components["schemas"] = dict(sorted((components.get("schemas", {}) | {"Problem": _PROBLEM}).items()))
    used = {
        response["$ref"].rpartition("/")[2]
        for operation in operations
        for response in operation["responses"].values()
        if "$ref" in response
    }
    components["responses"] = {
        name: _shared_response(status, description)
        for status, (name, description) in SHARED_RESPONSES.items()
        if name in used
    }
    return result


_MIN_REVISION = {
    "in": "header",
    "name": "Telemetry-Min-Revision",
    "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "description": "A `Telemetry-Revision` that a change was answered with, by any process: the request is processed"
    " with this change and all earlier ones, or rejected with 412 after a second.",
}
_REVISION = {
    "description": "Revision of the definitions, keys, groups and devices with which the request was processed.",
    "schema": {"type": "integer", "minimum": 0},
}


def _describe_revision(operation: dict[str, Any]) -> None:
    operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/MinRevision"})
    reference = {"$ref": f"#/components/responses/{SHARED_RESPONSES[412][0]}"}
    operation["responses"] = dict(sorted((operation["responses"] | {"412": reference}).items()))
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            response.setdefault("headers", {})["Telemetry-Revision"] = {"$ref": "#/components/headers/Revision"}


def _remove_enum_ids(node: Any) -> None:
    """Remove the marks of drf-spectacular's enum hook, which is not used."""
    children = node if isinstance(node, list) else [*node.values()] if isinstance(node, dict) else []
    if isinstance(node, dict):
        node.pop("x-spec-enum-id", None)
    for child in children:
        _remove_enum_ids(child)


def _shared_response(status: int, description: str) -> dict[str, Any]:
    headers = {
        name: {"description": meaning, "schema": {"type": "integer" if name == "Retry-After" else "string"}}
        for name, meaning in _HEADERS.get(status, {}).items()
    }
    described = {"description": description} | ({"headers": headers} if headers else {})
    if status < 400:
        return described
    example = problem(status, description) | {"request_id": "2c4063d57d46-1f"}
    body = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {_EXAMPLE: {"value": example}}}
    return described | {"content": {PROBLEM_JSON: body}}


_PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "Problem type."},
        "title": {"type": "string", "description": "Text of the status."},
        "status": {"type": "integer", "description": "HTTP status."},
        "detail": {"type": "string", "description": "Error and accepted values."},
        "errors": {
            "type": "array",
            "description": "Errors by field, or by point of a batch.",
            "items": {
                "type": "object",
                "properties": {
                    "device_id": {"type": "string", "description": "Device ID, in requests for several devices."},
                    "index": {"type": "integer", "description": "Index of the point in its array."},
                    "field": {"type": "string", "description": "Field; nested fields are joined with dots."},
                    "detail": {"type": "string", "description": "Error and accepted values."},
                },
                "required": ["field", "detail"],
            },
        },
        "request_id": {
            "type": ["string", "null"],
            "description": "Request ID in the log, as in `X-Request-Id`.",
        },
    },
    "required": ["type", "title", "status", "detail", "errors", "request_id"],
}
