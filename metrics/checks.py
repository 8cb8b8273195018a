"""System checks of the storage: keys that Citus refuses, and a TELEMETRY_SHARDS that differs from the database.

Tables are distributed by `shard` (manage.py distribute), so each of their keys must contain it, and no foreign key
may reference them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections
from django.db.models import Model, UniqueConstraint

from metrics.models import Block, Count, Head, Journal, JournalPack, Latest, Merged, Rollup, Young
from metrics.storage import shards

DISTRIBUTED_MODELS: tuple[type[Model], ...] = (
    *(Head, Merged, Young, Block, Rollup, Latest, Count, Journal),
    JournalPack,
)
_HINT = "Add `shard` to it or remove it: Citus refuses it on a distributed table."


@register("storage")
def check_distributed_tables(
    app_configs: Sequence[AppConfig] | None = None,
    models: Sequence[type[Model]] = DISTRIBUTED_MODELS,
    others: Iterable[type[Model]] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """Report keys without the shard, and foreign keys to distributed tables."""
    messages: list[CheckMessage] = []
    for model in models:
        for name, fields in _keys(model):
            if "shard" not in fields:
                messages.append(Error(f"{name} of {model.__name__} lacks `shard`", _HINT, model, "metrics.E001"))
    for other in others or apps.get_models():
        for field in other._meta.get_fields():
            if field.is_relation and field.concrete and field.related_model in models and field.model is other:
                messages.append(
                    Error(f"{other.__name__}.{field.name} references a distributed table", _HINT, other, "metrics.E002")
                )
    return messages


def _keys(model: type[Model]) -> Iterable[tuple[str, Sequence[str]]]:
    options = model._meta
    primary = options.pk_fields
    yield "the primary key", [field.name for field in primary]
    for field in options.local_fields:
        if field.unique and not field.primary_key:
            yield f"the unique field {field.name}", [field.name]
    for constraint in options.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield f"the constraint {constraint.name}", constraint.fields
    for fields in options.unique_together:
        yield f"unique together {fields}", fields


@register("storage", Tags.database)
def check_shard_count(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Compare TELEMETRY_SHARDS with the database, for commands that check databases."""
    messages: list[CheckMessage] = []
    for using in databases or ():
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT to_regclass('metrics_head')")
            if cursor.fetchone()[0] is None:
                continue
            cursor.execute("SELECT count(*), coalesce(max(seq), 0) FROM metrics_head")
            stored_count, seq = cursor.fetchone()
        if seq and (reason := shards.mismatch_reason(stored_count)):
            messages.append(Error(reason, id="metrics.E003"))
    return messages
