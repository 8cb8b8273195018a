"""Record every change of the rows of audited models, whichever view, form, command or cascade makes it.

Signal receivers also see what a QuerySet or a cascade deletes, and rows of Django's own models (users and their
groups). Bulk changes that bypass Django's models are recorded by the function that makes them (metrics.audit.record).
"""

from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.db import transaction
from django.db.models import BinaryField, DateField, Field, ForeignKey, Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from metrics.audit.record import name_field, record
from metrics.events.model_changes import record_change
from metrics.models import Audited

HIDDEN = "(hidden)"
MAX_NAMES = 100  # of added or removed objects; of more only the count is recorded
_IGNORED_FIELDS = {"last_login", "last_used_at"}  # sign-ins have their own entries, requests of keys are in the journal
_BEFORE = "_before_audit"

watched_models: set[type[Model]] = set()


def watch_audited_models() -> None:
    """Watch every subclass of `Audited`."""
    for model in apps.get_models():
        if issubclass(model, Audited):
            watch_model(model)


def watch_model(model: type[Model]) -> None:
    """Record every change of the rows of a model."""
    watched_models.add(model)
    pre_save.connect(_before_change, sender=model)
    post_save.connect(_after_save, sender=model)
    pre_delete.connect(_before_change, sender=model)
    post_delete.connect(_after_delete, sender=model)
    for field in model._meta.local_many_to_many:
        m2m_changed.connect(_MembershipReceiver(model, field), sender=field.remote_field.through, weak=False)


def _before_change(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    # The stored row, not what was read some time ago; locked until the transaction ends.
    locked = transaction.get_connection().in_atomic_block
    setattr(instance, _BEFORE, _state(sender, instance.pk, locked) if instance.pk is not None else None)


def _after_save(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    before, after = instance.__dict__.pop(_BEFORE, None), _state(sender, instance.pk) or {}
    if before is None:
        record("created", instance, after=_visible_values(sender, after))
        record_change("created", instance)
        return
    changed = {name for name in after if after[name] != before.get(name)}
    if changed:
        record("changed", instance, *(_visible_values(sender, state, changed) for state in (before, after)))
        record_change("changed", instance, list(changed))


def _after_delete(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    before = instance.__dict__.pop(_BEFORE, None)
    if before is not None:
        record("deleted", instance, before=_visible_values(sender, before))
        record_change("deleted", instance)


def _state(model: type[Model], pk: Any, locked: bool = False) -> dict[str, Any] | None:
    """Return the stored fields of a row; foreign keys by the identifying field of the other row."""
    lookups = {field.name: _lookup(field) for field in _fields(model)}
    rows = model._base_manager.filter(pk=pk)
    if locked:
        rows = rows.select_for_update(of=("self",))
    values = rows.values(*lookups.values()).first()
    return None if values is None else {name: values[lookup] for name, lookup in lookups.items()}


def _fields(model: type[Model]) -> Iterator["Field[Any, Any]"]:
    for field in model._meta.concrete_fields:
        is_timestamp = isinstance(field, DateField) and field.auto_now
        if not (is_timestamp or isinstance(field, BinaryField) or field.name in _IGNORED_FIELDS):
            yield field


def _lookup(field: "Field[Any, Any]") -> str:
    if isinstance(field, ForeignKey):
        return f"{field.name}__{name_field(field.related_model)}"
    return field.name


def _visible_values(model: type[Model], state: dict[str, Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    hidden = getattr(model, "audit_hidden", {"password"})
    chosen = [name for name in state if names is None or name in names]
    return {name: HIDDEN if name in hidden else state[name] for name in chosen}


class _MembershipReceiver:
    """Receiver of changes of a many-to-many field: recorded for the object on whose side they are made."""

    def __init__(self, model: type[Model], field: Any) -> None:
        self.field = field

    def __call__(self, action: str, instance: Any, reverse: bool, model: type[Model], **kwargs: Any) -> None:
        name = self.field.remote_field.get_accessor_name() if reverse else self.field.name
        if action == "pre_clear":
            removed = _names(model, getattr(instance, name).all())
            if removed:
                record("changed", instance, before={name: removed})
        elif action in ("post_add", "post_remove") and kwargs["pk_set"]:
            names = {name: _names(model, model._base_manager.filter(pk__in=kwargs["pk_set"]))}
            record("changed", instance, **{"after" if action == "post_add" else "before": names})


def _names(model: type[Model], rows: Any) -> list[str] | dict[str, int]:
    all_names = rows.order_by().values_list(name_field(model), flat=True)
    names = sorted(all_names[: MAX_NAMES + 1])
    return names if len(names) <= MAX_NAMES else {"count": all_names.count()}
