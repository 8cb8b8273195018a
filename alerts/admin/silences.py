"""Admin of silences. Silences are ended, not deleted, so that they can be looked up later."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import pluralize

from alerts import silences
from alerts.admin.forms import ArrayFieldAdmin, ValidatedModelForm, copy_saved_values
from alerts.models import Silence
from rest.caller import caller_of

MAX_ENDED_SILENCES = 500  # per action


class SilenceForm(ValidatedModelForm):
    class Meta:
        model = Silence
        fields = silences.SILENCE_FIELDS

    def check(self) -> None:
        silences.validate({name: getattr(self.instance, name) for name in silences.SILENCE_FIELDS})


@admin.register(Silence)
class SilenceAdmin(ArrayFieldAdmin):
    help = (
        "Suppress the notifications of alerts that match every non-empty list below. Alerts are still opened and shown;"
        " channels that were notified of an alert are notified when it is resolved."
    )
    form = SilenceForm
    list_display = ("reason", "kind", "starts_at", "ends_at", "created_by")
    list_filter = ("kind", "ends_at")
    search_fields = ("=silence_id", "reason", "^created_by")
    actions = ("end",)
    fields = (*silences.SILENCE_FIELDS, "silence_id", "created_by", "created_at", "updated_at")
    readonly_fields = ("silence_id", "created_by", "created_at", "updated_at")

    def has_delete_permission(self, request: HttpRequest, obj: Silence | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Silence, form: object, change: bool) -> None:
        fields = {name: getattr(obj, name) for name in silences.SILENCE_FIELDS}
        caller = caller_of(request.user)
        saved = silences.change_silence(obj, fields, caller) if change else silences.create_silence(fields, caller)
        copy_saved_values(obj, saved)

    @admin.action(description="End now", permissions=["change"])
    def end(self, request: HttpRequest, queryset: QuerySet[Silence]) -> None:
        selected = list(queryset[:MAX_ENDED_SILENCES])
        for silence in selected:
            silences.end_silence(silence, caller_of(request.user))
        self.message_user(request, f"{len(selected):,} silence{pluralize(len(selected))} ended.", messages.SUCCESS)
