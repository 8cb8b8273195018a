"""Base classes of admin lists whose cost does not grow with the number of rows."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

MAX_COUNTED_ROWS = 10_000  # of a list; rows after these are found by filters


class BoundedPaginator(Paginator):
    """Paginator that counts at most MAX_COUNTED_ROWS."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list[:MAX_COUNTED_ROWS]  # type: ignore[assignment]
        return rows.count()


class ReadOnlyAdmin(admin.ModelAdmin):
    """Admin list without add, change and delete."""

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
    """Filter by a relation with thousands of rows: offers the first ones by name, and the selected one."""

    max_choices = 30

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        related = field.remote_field.model._default_manager
        selected = [value for value in self.lookup_val or [] if str(value).isdecimal()]
        rows = [*related.order_by("name")[: self.max_choices], *related.filter(pk__in=selected)]
        return [(pk, name) for pk, name in {row.pk: str(row) for row in rows}.items()]
