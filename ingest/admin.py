"""Keys: made here, shown once, rotated and revoked here."""

from datetime import timedelta

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from ingest.identity import keys
from ingest.models import PREFIX_LENGTH, ApiKey, digest_of, new_key

OVERLAP = timedelta(days=1)


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
        return always if obj is None else (*always, "scope", "device", "group")  # a key keeps to what it was given for

    def save_model(self, request: HttpRequest, obj: ApiKey, form: object, change: bool) -> None:
        if not change:
            text = new_key()
            obj.prefix, obj.digest = text[:PREFIX_LENGTH], digest_of(text)
            self.message_user(request, f"The key is {text} and will not be shown again.", messages.WARNING)
        obj.save()

    @admin.action(description="Rotate the selected keys: the old ones are good for another day")
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            try:
                new, text = keys.rotate(key.pk, OVERLAP)
            except keys.NotValid as error:
                self.message_user(request, f"{key}: {error}", messages.ERROR)
            else:
                said = f"The new key of {new.name} is {text} and will not be shown again."
                self.message_user(request, said, messages.WARNING)

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset.filter(revoked_at=None):
            keys.revoke(key)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            key.delete()
