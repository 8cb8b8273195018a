"""Admin of collectors and of their journal. Secrets are never shown and can only be replaced."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from ingest.collection import lifecycle
from ingest.collection.display import target_of
from ingest.collection.kinds import KINDS
from ingest.collection.models import Annotation, Collection, Collector
from metrics.admin.base import ReadOnlyAdmin
from rest.caller import caller_of
from rest.errors import InvalidFields

KEEP_HINT = "JSON object of secrets by name. Secrets that are left out keep their values; an empty text removes one."


class CollectorForm(forms.ModelForm):
    kind = forms.ChoiceField(choices=[(kind.name, kind.label) for kind in KINDS.values()])
    configuration = forms.JSONField(required=False, initial=dict, help_text="Fields of the kind, as a JSON object.")
    secrets = forms.CharField(required=False, widget=forms.PasswordInput, help_text=KEEP_HINT)

    class Meta:
        model = Collector
        fields = (
            "name",
            "kind",
            "device_id",
            "configuration",
            "metric_prefix",
            "interval",
            "jitter",
            "deadline",
            "enabled",
        )

    def clean_secrets(self) -> dict[str, str]:
        text = self.cleaned_data["secrets"]
        try:
            secrets = json.loads(text or "{}")
        except ValueError:
            raise forms.ValidationError('A JSON object such as {"password": "…"} is accepted.') from None
        if not isinstance(secrets, dict) or not all(isinstance(value, str) for value in secrets.values()):
            raise forms.ValidationError("A JSON object of texts is accepted.")
        return secrets

    def clean_configuration(self) -> dict[str, Any]:
        configuration = self.cleaned_data["configuration"] or {}
        if not isinstance(configuration, dict):
            raise forms.ValidationError("A JSON object is accepted.")
        return configuration

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            lifecycle.set_fields(self.instance, self.cleaned_data)
            lifecycle.check_collector(self.instance)
        except InvalidFields as error:
            for name, detail in error.fields:
                field = name.partition(".")[0]
                self.add_error(
                    field if field in self.fields else None, detail if field == name else f"{name}: {detail}"
                )


@admin.register(Collector)
class CollectorAdmin(admin.ModelAdmin):
    form = CollectorForm
    list_display = ("name", "kind", "target", "device_id", "interval", "enabled")
    list_filter = ("kind", "enabled")
    search_fields = ("name", "device_id", "=collector_id")
    readonly_fields = ("collector_id", "secret_names", "created_by", "created_at", "updated_at")
    actions = ("run_now",)
    show_full_result_count = False
    list_per_page = 50

    @admin.display(description="target")
    def target(self, collector: Collector) -> str:
        return target_of(collector)

    @admin.display(description="stored secrets")
    def secret_names(self, collector: Collector) -> str:
        return ", ".join(collector.secret_names) or "none"

    def save_model(self, request: HttpRequest, obj: Collector, form: Any, change: bool) -> None:
        if change:
            lifecycle.change_collector(obj, form.cleaned_data)
        else:
            saved = lifecycle.create_collector(form.cleaned_data, caller_of(request.user).name)
            obj.pk, obj.collector_id, obj._state.adding = saved.pk, saved.collector_id, False

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """Return the collectors only: their journals are deleted with them."""
        names = [str(collector) for collector in objs]
        return names, {"collectors": len(names)}, set(), []

    @admin.action(description="Run the selected collectors now", permissions=["change"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Collector]) -> None:
        for collector in queryset:
            lifecycle.request_collection(collector, caller_of(request.user).name)
        self.message_user(request, f"{len(queryset)} collectors run now.", messages.SUCCESS)


@admin.register(Collection)
class CollectionAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "collector", "points", "rejected", "duration_ms", "late_ms", "error", "snapshot_id")
    list_select_related = ("collector",)
    search_fields = ("=snapshot_id", "collector__name")


@admin.register(Annotation)
class AnnotationAdmin(ReadOnlyAdmin):
    list_display = ("at", "device_id", "version", "state", "deployment_id", "collector")
    list_select_related = ("collector",)
    search_fields = ("device_id", "version", "=deployment_id")
