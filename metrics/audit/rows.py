"""Rows whose every change is told of, whichever view, form, command or cascade changes them.

Receivers, since they also hear of what a QuerySet deletes, what goes with something else, and of rows of Django's own
(people and their groups). What is written past Django's models, many rows at once, is told of by the verb that does
it (metrics.audit.record).
"""

from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.db import transaction
from django.db.models import BinaryField, DateField, Field, ForeignKey, Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from metrics.audit.record import name_field, record
from metrics.models import Audited

HIDDEN = "(hidden)"
MOST_NAMES = 100  # of what was put into something or taken out of it; of more than that, how many
_IGNORED = {"last_login", "last_used_at"}  # a sign-in is told of by itself, what keys do is in the journal
_BEFORE = "_before_audit"

watched: set[type[Model]] = set()


def watch_all() -> None:
    """Watch every model that is `Audited`."""
    for model in apps.get_models():
        if issubclass(model, Audited):
            watch(model)


def watch(model: type[Model]) -> None:
    """Tell of every change of the rows of a model."""
    watched.add(model)
    pre_save.connect(_about_to_change, sender=model)
    post_save.connect(_saved, sender=model)
    pre_delete.connect(_about_to_change, sender=model)
    post_delete.connect(_deleted, sender=model)
    for field in model._meta.local_many_to_many:
        m2m_changed.connect(_Members(model, field), sender=field.remote_field.through, weak=False)


def _about_to_change(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    # What is stored, not what somebody read some time ago; nobody else changes it until this is done.
    locked = transaction.get_connection().in_atomic_block
    setattr(instance, _BEFORE, _state(sender, instance.pk, locked) if instance.pk is not None else None)


def _saved(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    before, after = instance.__dict__.pop(_BEFORE, None), _state(sender, instance.pk) or {}
    if before is None:
        record("created", instance, after=_shown(sender, after))
        return
    changed = {name for name in after if after[name] != before.get(name)}
    if changed:
        record("changed", instance, *(_shown(sender, state, changed) for state in (before, after)))


def _deleted(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    before = instance.__dict__.pop(_BEFORE, None)
    if before is not None:
        record("deleted", instance, before=_shown(sender, before))


def _state(model: type[Model], pk: Any, locked: bool = False) -> dict[str, Any] | None:
    """What is stored of a row; other rows that it points at by the names that these are known by."""
    places = {field.name: _place(field) for field in _fields(model)}
    rows = model._base_manager.filter(pk=pk)
    if locked:
        rows = rows.select_for_update(of=("self",))
    values = rows.values(*places.values()).first()
    return None if values is None else {name: values[place] for name, place in places.items()}


def _fields(model: type[Model]) -> Iterator["Field[Any, Any]"]:
    for field in model._meta.concrete_fields:
        clock = isinstance(field, DateField) and field.auto_now
        if not (clock or isinstance(field, BinaryField) or field.name in _IGNORED):
            yield field


def _place(field: "Field[Any, Any]") -> str:
    if isinstance(field, ForeignKey):
        return f"{field.name}__{name_field(field.related_model)}"
    return field.name


def _shown(model: type[Model], state: dict[str, Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    hidden = getattr(model, "audit_hidden", {"password"})
    chosen = [name for name in state if names is None or name in names]
    return {name: HIDDEN if name in hidden else state[name] for name in chosen}


class _Members:
    """Receiver of the changes of a many-to-many field: told of the object at whose end they were made."""

    def __init__(self, model: type[Model], field: Any) -> None:
        self.field = field

    def __call__(self, action: str, instance: Any, reverse: bool, model: type[Model], **kwargs: Any) -> None:
        name = self.field.remote_field.get_accessor_name() if reverse else self.field.name
        if action == "pre_clear":
            gone = _names(model, getattr(instance, name).all())
            if gone:
                record("changed", instance, before={name: gone})
        elif action in ("post_add", "post_remove") and kwargs["pk_set"]:
            moved = {name: _names(model, model._base_manager.filter(pk__in=kwargs["pk_set"]))}
            record("changed", instance, **{"after" if action == "post_add" else "before": moved})


def _names(model: type[Model], rows: Any) -> list[str] | dict[str, int]:
    found = rows.order_by().values_list(name_field(model), flat=True)
    names = sorted(found[: MOST_NAMES + 1])
    return names if len(names) <= MOST_NAMES else {"count": found.count()}
