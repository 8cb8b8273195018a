"""Admin pages of API keys and of the rejected inbox."""

from datetime import timedelta

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from ingest.collection import admin as collection_admin  # noqa: F401 - registers its pages
from ingest.identity import keys
from ingest.models import PREFIX_LENGTH, AgentConfiguration, ApiKey, Rejected, digest_of, new_key
from ingest.rejected.listing import replayable_ids, with_kept_counts
from ingest.rejected.replay import replay
from ingest.rejected.retention import delete_rows
from metrics.error_responses import EXPECTED_ERRORS
from metrics.storage.connection import read_connection
from rest.caller import caller_of

ROTATION_OVERLAP = timedelta(days=1)


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    list_display = (
        "name", "prefix", "scope", "device", "group", "created_at", "last_used_at", "expires_at", "revoked_at",
    )  # fmt: skip
    list_filter = ("scope",)
    list_select_related = ("device", "group")
    search_fields = ("name", "prefix", "device__device_id", "group__name")
    autocomplete_fields = ("device", "group")
    fields = ("name", "scope", "device", "group", "expires_at", "revoked_at", "last_used_at", "rotated_from")
    actions = ("rotate", "revoke")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        always = ("last_used_at", "rotated_from")
        return always if obj is None else (*always, "scope", "device", "group")  # the rights of a key never change

    def save_model(self, request: HttpRequest, obj: ApiKey, form: object, change: bool) -> None:
        if not change:
            text = new_key()
            obj.prefix, obj.digest = text[:PREFIX_LENGTH], digest_of(text)
            self.message_user(request, f"The key is {text} and will not be shown again.", messages.WARNING)
        obj.save()

    @admin.action(description="Rotate the selected keys (old keys stay valid for 1 day)")
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            try:
                new, text = keys.rotate(key.pk, ROTATION_OVERLAP)
            except keys.KeyNotValid as error:
                self.message_user(request, f"{key}: {error}", messages.ERROR)
            else:
                message = f"The new key of {new.name} is {text} and will not be shown again."
                self.message_user(request, message, messages.WARNING)

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset.filter(revoked_at=None):
            keys.revoke(key)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            key.delete()


@admin.register(Rejected)
class RejectedAdmin(admin.ModelAdmin):
    """The rejected inbox, with replay of selected rows."""

    list_display = ("metric_name", "device_id", "reason", "count", "kept", "sender", "detail", "last_at")
    list_display_links = None
    list_filter = ("reason",)
    search_fields = ("device_id", "metric_name", "sender")
    show_full_result_count = False
    actions = ("replay_selected",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rejected]:
        return with_kept_counts(Rejected.objects.visible_to(caller_of(request.user)))

    @admin.display(description="kept", ordering="kept")
    def kept(self, row: Rejected) -> int:
        return row.kept  # type: ignore[attr-defined]  # from get_queryset

    @admin.action(description="Replay the selected points", permissions=["delete"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Rejected]) -> None:
        try:
            result = replay(replayable_ids(queryset), caller_of(request.user))
        except EXPECTED_ERRORS as error:
            self.message_user(request, f"Not replayed: {error}", messages.ERROR)
            return
        more = "" if result.next is None else " More points are left: replay again."
        message = f"{result.replayed:,} points stored, {result.rejected:,} rejected again.{more}"
        self.message_user(request, message, messages.WARNING if result.rejected else messages.SUCCESS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Rejected | None = None) -> bool:
        return False

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Rejected]) -> None:
        with read_connection() as connection:
            delete_rows(connection, list(queryset.values_list("pk", flat=True)))


@admin.register(AgentConfiguration)
class AgentConfigurationAdmin(admin.ModelAdmin):
    """Configuration of agents. It is emptied, not deleted: without a newer version an agent keeps the one it has."""

    list_display = ("device", "version", "interval", "updated_at")
    list_select_related = ("device",)
    search_fields = ("device__device_id",)
    autocomplete_fields = ("device",)
    fields = ("device", "interval", "probes", "version")
    readonly_fields = ("version",)

    def has_delete_permission(self, request: HttpRequest, obj: AgentConfiguration | None = None) -> bool:
        return False
