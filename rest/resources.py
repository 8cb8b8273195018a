"""Base of the resources of the API: list, create, read, change and delete with one set of conventions.

A resource declares its rows, serializer, filters, permissions and texts; this module adds pages with a cursor, ETags,
`If-Match`, `Idempotency-Key`, transactions, field errors and the OpenAPI description of each action.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Model, QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.metadata import SimpleMetadata
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from rest.caller import Caller
from rest.etags import check_match, etag, respond_with_etag
from rest.filters import FilterSet
from rest.idempotency import idempotent
from rest.openapi import Tag, etag_header, operation
from rest.pagination import PageQuerySerializer, paginate
from rest.permissions import caller
from rest.responses import PageSerializer, SuccessSerializer

LIST: dict[str, Any] = {"get": "list"}
COLLECTION: dict[str, Any] = {"get": "list", "post": "create"}
READ_ONLY: dict[str, Any] = {"get": "retrieve"}
ITEM: dict[str, Any] = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}

R = TypeVar("R", bound="type[Resource]")


class Metadata(SimpleMetadata):
    """Answer to OPTIONS without the fields of the serializer: the OpenAPI description has them."""

    def determine_actions(self, request: Request, view: Any) -> dict[str, Any]:
        return {}


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT


def get_row(queryset: QuerySet[Any], message: str = "{} is not known", **lookup: Any) -> Any:
    """Return the row of a lookup by one field. Raises NotFound."""
    row: Model | None = queryset.filter(**lookup).first()
    if row is None:
        raise NotFound(message.format(*lookup.values()))
    return row


def validate_body(serializer: Any, prefix: str | None = None) -> dict[str, Any]:
    """Return the validated fields of a body, or of the object in its field `prefix`.

    Raises ValidationError with all invalid fields, InvalidFields for unknown ones.
    """
    if not serializer.is_valid():
        errors = dict(serializer.errors)
        raise serializers.ValidationError(errors if prefix is None else {prefix: errors})
    fields: dict[str, Any] = serializer.validated_data
    return fields


@dataclass(frozen=True, slots=True)
class Action:
    """Description of one action of a resource.

    request   example of the body; of a list, example of its query parameters
    response  example of the response body
    errors    statuses beyond those that follow from the action
    """

    operation_id: str
    summary: str
    description: str
    request: Any = None
    response: Any = None
    errors: Sequence[int] = ()


class Resource(GenericViewSet[Any]):
    """Rows of one model under one path.

    rows_field     field of a page that holds its rows
    page_name      OpenAPI component of a page; the rows field in title case by default
    page_fields    fields of a page besides rows, counts and filters, for OpenAPI
    filterset_class  filters of the list
    query_class    position and size of a page, and further options of the list
    echo_filters   field `filters` of a page: "sent" has the filters of the request, "all" also null for the others
    count_limit    upper bound of `total`, for lists that are long
    is_nested      the path names a row that contains these, which may not exist
    has_etag       responses have an ETag
    cacheable      the ETag covers everything a GET returns, so If-None-Match is supported
    read_scope     scope that reads need; by default any caller that may read points
    write_scope    scope that changes need, by default `admin`; `action_scopes` has the exceptions
    unique_error   (field, message) when another request stores the same name first; None for names that may repeat
    """

    rows_field: ClassVar[str]
    page_name: ClassVar[str] = ""
    page_fields: ClassVar[Mapping[str, Any]] = {}
    filterset_class: ClassVar[type[FilterSet]] = FilterSet
    query_class: ClassVar[type[PageQuerySerializer]] = PageQuerySerializer
    echo_filters: ClassVar[str | None] = None
    count_limit: ClassVar[int | None] = None
    is_nested: ClassVar[bool] = False
    has_etag: ClassVar[bool] = True
    cacheable: ClassVar[bool] = False
    read_scope: ClassVar[str | None] = None
    write_scope: ClassVar[str | None] = "admin"
    action_scopes: ClassVar[Mapping[str, str]] = {}
    unique_error: ClassVar[tuple[str, str] | None] = ("name", "is taken")
    not_found_message: ClassVar[str] = "{} is not known"
    detail_serializer_class: ClassVar[type[serializers.BaseSerializer[Any]] | None] = None
    created_serializer_class: ClassVar[type[serializers.BaseSerializer[Any]] | None] = None
    deleted_serializer_class: ClassVar[type[serializers.BaseSerializer[Any]]] = SuccessSerializer
    metadata_class = Metadata

    @property
    def scope_for_changes(self) -> str | None:
        return self.action_scopes.get(self.action, self.write_scope)

    @property
    def caller(self) -> Caller:
        return caller(self.request)

    # --- actions ------------------------------------------------------------------------------------

    def list(self, request: Request, **names: Any) -> Response:
        query = self.query_class(data=request.query_params)
        filters = self.filterset_class(request.query_params, self.get_queryset(), request=request)
        if not query.is_valid() or not filters.is_valid():
            raise serializers.ValidationError({**filters.errors, **query.errors})
        rows, counts = paginate(filters.qs, query, self.count_limit)
        return Response({self.rows_field: self.represent(rows, query), **counts, **self.page_extras(filters)})

    @idempotent
    def create(self, request: Request, **names: Any) -> Response:
        serializer = self.get_serializer(data=request.data)
        self.validate(serializer)
        with self.saving() if self.unique_error else nullcontext():
            row = self.perform_create(serializer)
        return self.respond(row, status.HTTP_201_CREATED)

    def retrieve(self, request: Request, **names: Any) -> Response:
        if self.detail_serializer_class is not None:
            return Response(self.detail_serializer_class(self.get_object(), context=self.get_serializer_context()).data)
        return self.respond(self.get_object())

    def partial_update(self, request: Request, **names: Any) -> Response:
        return self._change(partial=True)

    def update(self, request: Request, **names: Any) -> Response:
        return self._change(partial=False)

    def _change(self, partial: bool) -> Response:
        with self.saving():
            row = self.lock_object()
            serializer = self.get_serializer(row, data=self.request.data, partial=partial)
            self.validate(serializer)
            row = self.perform_update(serializer)
            getattr(row, "_prefetched_objects_cache", {}).clear()
        return self.respond(row)

    def destroy(self, request: Request, **names: Any) -> Response:
        with transaction.atomic():
            row = self.lock_object()
            return self.respond_deleted(row, self.perform_destroy(row))

    # --- what a resource may override ---------------------------------------------------------------

    def perform_create(self, serializer: Any) -> Any:
        """Store the new row and return it."""
        return serializer.save()

    def perform_update(self, serializer: Any) -> Any:
        """Store the changed row and return it."""
        return serializer.save()

    def perform_destroy(self, row: Any) -> Any:
        row.delete()

    def represent(self, rows: Sequence[Any], query: PageQuerySerializer | None = None) -> Any:
        """Return the JSON of rows; `query` has the parameters of a list."""
        return self.get_serializer(rows, many=True).data

    def page_extras(self, filters: FilterSet) -> dict[str, Any]:
        sent = self.request.query_params
        match self.echo_filters:
            case None:
                return {}
            case "all":
                return {"filters": {name: sent.get(name) for name in filters.filters}}
            case _:
                names = [name for name in filters.form.cleaned_data if name in sent]
                return {"filters": {name: ",".join(sent.getlist(name)) for name in names}}

    def deleted_message(self, row: Any) -> str:
        return f"{row} is deleted"

    def respond_deleted(self, row: Any, result: Any) -> Response:
        return Response({"success": True, "message": self.deleted_message(row)})

    # --- helpers of actions -------------------------------------------------------------------------

    def get_object(self) -> Any:
        """Return the row in the URL. Raises NotFound when it does not exist or the caller must not see it."""
        return self._find(self.get_queryset())

    def lock_object(self) -> Any:
        """Return the row in the URL, locked until the transaction ends.

        Raises NotFound, and PreconditionFailed when If-Match names another state.
        """
        row = self._find(self.get_queryset().select_for_update(of=("self",)))
        check_match(self.request, row)
        return row

    def _find(self, queryset: Any) -> Any:
        value = self.kwargs[self.lookup_url_kwarg or self.lookup_field]
        return get_row(queryset, self.not_found_message, **{self.lookup_field: value})

    def validate(self, serializer: serializers.BaseSerializer[Any]) -> dict[str, Any]:
        return validate_body(serializer)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Open a transaction. A unique name that another request stored meanwhile becomes a field error."""
        try:
            with transaction.atomic():
                yield
        except IntegrityError:
            if self.unique_error is None:
                raise
            raise serializers.ValidationError(dict([self.unique_error])) from None

    def respond(self, row: Any, code: int = status.HTTP_200_OK) -> Response:
        body = self.represent([row])[0]
        if self.cacheable:
            return respond_with_etag(self.request, row, body, code)
        return Response(body, code, headers={"ETag": etag(row)} if self.has_etag else None)


def describe(tag: Tag, **actions: Action) -> Callable[[R], R]:
    """Describe the standard actions of a resource in OpenAPI."""

    def decorate(resource: R) -> R:
        for name, action in actions.items():
            setattr(resource, name, _operation(resource, tag, name, action)(getattr(resource, name)))
        return resource

    return decorate


def _operation(resource: "type[Resource]", tag: Tag, name: str, action: Action) -> Any:
    serializer: Any = resource.serializer_class
    errors = {*action.errors}
    if resource.is_nested or name not in ("list", "create"):
        errors.add(404)
    shape: dict[str, Any] = {"response": serializer, "etag": resource.has_etag}
    match name:
        case "list":
            filters = [resource.filterset_class.get_form_class()] if resource.filterset_class.base_filters else []
            shape = {"query": resource.query_class, "parameters": filters, "response": _page_class(resource)}
        case "retrieve":
            shape |= {"response": resource.detail_serializer_class or serializer}
        case "create":
            shape |= {"request": serializer, "response": resource.created_serializer_class or serializer, "status": 201}
        case "partial_update":
            shape |= {"request": serializer(partial=True)}
        case "update":
            shape |= {"request": serializer}
        case "destroy":
            shape |= {"response": resource.deleted_serializer_class}
    if name in ("create", "retrieve") and resource.has_etag and not resource.cacheable:
        shape |= {"etag": False, "parameters": [etag_header(shape.get("status", 200))]}
    return operation(
        action.operation_id,
        action.summary,
        tag=tag,
        description=action.description,
        errors=sorted(errors),
        request_example=action.request,
        response_example=action.response,
        **shape,
    )


def _page_class(resource: "type[Resource]") -> type[PageSerializer]:
    """Return the description of a page of a resource."""
    assert resource.serializer_class is not None
    fields: dict[str, Any] = {resource.rows_field: resource.serializer_class(many=True), **resource.page_fields}
    if resource.echo_filters is not None:
        child = serializers.CharField(allow_null=resource.echo_filters == "all")
        fields["filters"] = serializers.DictField(child=child, help_text="Filters of the request.")
    page = type(resource.page_name or resource.rows_field.title(), (PageSerializer,), fields)
    return extend_schema_serializer(many=False)(page)
