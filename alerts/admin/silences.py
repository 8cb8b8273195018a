"""Silences: made and changed here, and ended rather than deleted, so that they can be looked up."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from alerts import silences
from alerts.admin.forms import CheckedForm, ListsAdmin, taken_over
from alerts.models import Silence
from rest.caller import caller_of

MOST_ENDED = 500  # of one request


class SilenceForm(CheckedForm):
    class Meta:
        model = Silence
        fields = silences.FIELDS

    def check(self) -> None:
        silences.check({name: getattr(self.instance, name) for name in silences.FIELDS})


@admin.register(Silence)
class SilenceAdmin(ListsAdmin):
    help = (
        "Alerts that are in every list here that is not empty notify nobody until the end. They are raised and shown as"
        " ever, and that they are resolved is told to whoever was told of them."
    )
    form = SilenceForm
    list_display = ("reason", "kind", "starts_at", "ends_at", "created_by")
    list_filter = ("kind", "ends_at")
    search_fields = ("=silence_id", "reason", "^created_by")
    actions = ("end",)
    fields = (*silences.FIELDS, "silence_id", "created_by", "created_at", "updated_at")
    readonly_fields = ("silence_id", "created_by", "created_at", "updated_at")

    def has_delete_permission(self, request: HttpRequest, obj: Silence | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Silence, form: object, change: bool) -> None:
        fields, by = {name: getattr(obj, name) for name in silences.FIELDS}, caller_of(request.user)
        saved = silences.change_silence(obj, fields, by) if change else silences.open_silence(fields, by)
        taken_over(obj, saved)

    @admin.action(description="End now", permissions=["change"])
    def end(self, request: HttpRequest, queryset: QuerySet[Silence]) -> None:
        chosen = list(queryset[:MOST_ENDED])
        for silence in chosen:
            silences.end_silence(silence, caller_of(request.user))
        self.message_user(request, f"{len(chosen):,} silences are over.", messages.SUCCESS)
