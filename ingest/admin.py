"""Keys: made here, shown once, revoked here."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from ingest.models import PREFIX_LENGTH, ApiKey, digest_of, new_key


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    list_display = ("name", "prefix", "scope", "device", "created_at", "expires_at", "revoked_at")
    list_filter = ("scope",)
    list_select_related = ("device",)
    search_fields = ("name", "prefix", "device__device_id")
    autocomplete_fields = ("device",)
    fields = ("name", "scope", "device", "expires_at", "revoked_at")
    actions = ("revoke",)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return () if obj is None else ("scope", "device")  # a key in the field keeps to what it was given for

    def save_model(self, request: HttpRequest, obj: ApiKey, form: object, change: bool) -> None:
        if not change:
            text = new_key()
            obj.prefix, obj.digest = text[:PREFIX_LENGTH], digest_of(text)
            self.message_user(request, f"The key is {text} and will not be shown again.", messages.WARNING)
        obj.save()

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset.filter(revoked_at=None):
            key.revoked_at = timezone.now()
            key.save()  # one by one, so that every process is told

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            key.delete()
