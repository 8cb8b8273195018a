"""Lists whose cost does not grow with what they list."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

MOST_COUNTED = 10_000  # rows: whoever wants to see what comes after them filters


class BoundedPaginator(Paginator):
    """Counts no further than somebody would turn pages."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list[:MOST_COUNTED]  # type: ignore[assignment]
        return rows.count()


class ReadOnlyAdmin(admin.ModelAdmin):
    """What is true elsewhere: looked at here, neither made nor changed nor deleted."""

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class FirstFewFilter(admin.RelatedFieldListFilter):
    """A filter by something that there may be thousands of: the first by name, and the one that is chosen."""

    most = 30

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        others = field.remote_field.model._default_manager
        chosen = [value for value in self.lookup_val or [] if str(value).isdecimal()]
        rows = [*others.order_by("name")[: self.most], *others.filter(pk__in=chosen)]
        return [(pk, name) for pk, name in {row.pk: str(row) for row in rows}.items()]
