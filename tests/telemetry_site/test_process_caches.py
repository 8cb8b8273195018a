"""Every module-level cache of the product is in the registry of process caches."""

import ast
from collections.abc import Iterator
from importlib import import_module

import pytest

from telemetry_site import process_caches
from tests.telemetry_site.site_process import ROOT

PACKAGES = ("telemetry_site", "dashboard", "alerts", "ingest", "metrics", "rest")
# Module variables whose state needs no reset.
RESOURCES = {  # closed or stopped by their owner, or set once at the start
    "alerts.notifications.channels.apprise_network._install",
    "metrics.alert_summary._alert_summary",
    "metrics.audit.model_changes.watched_models",
    "metrics.events.event._definitions",
    "metrics.events.model_changes._makers",
    "metrics.storage.connection._pools",
    "metrics.storage.series_registry._NO_ROWS",
    "metrics.storage.write.group_commit.commit_listeners",
    "metrics.storage.series_registry._failure",
    "metrics.storage.series_registry._refreshed_at",
    "metrics.storage.series_registry._required_revision",
    "ingest.rejected.inbox._inbox_lock",
    "metrics.storage.write.group_commit._writer_lock",
    "rest.renderers._encoder",
    "rest.request_log._numbers",
    "telemetry_site.celery.app",
    "telemetry_site.settings.env",
}
# Constructors of values without state, or that only synchronize threads.
STATELESS_CALLS = {
    "AuthMiddlewareStack", "BoundedSemaphore", "ContextVar", "Decoder", "Encoder", "FastLane", "Library", "Lock",
    "NewType", "ProtocolTypeRouter", "ThreadPoolExecutor", "TypeVar", "build_opener", "database_sync_to_async",
    "get_asgi_application", "getLogger", "operation", "urlsplit",
}  # fmt: skip


def product_modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def called_name(node: ast.AST) -> str:
    target = node.func if isinstance(node, ast.Call) else node
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""


def caches_in(tree: ast.Module) -> Iterator[str]:
    """Names of module variables that functions rebind, of mutable containers, of instances, and of cached functions
    that read the database or the settings."""
    rebound = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    yield from rebound
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_cached = any(called_name(decorator) in ("cache", "lru_cache") for decorator in node.decorator_list)
            if is_cached and reads_state(node):
                yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and not target.id.startswith("__") and target.id not in rebound:
                is_constant = target.id.lstrip("_").isupper()
                if _is_cache(node.value, is_constant):
                    yield target.id


def reads_state(function: ast.AST) -> bool:
    names = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return not names.isdisjoint({"objects", "execute", "settings", "connect", "reading_connection"})


def _is_cache(value: ast.expr, is_constant: bool) -> bool:
    if isinstance(value, ast.Dict | ast.Set | ast.List):
        elements = value.keys if isinstance(value, ast.Dict) else value.elts
        return not elements  # an empty container is filled later
    if not isinstance(value, ast.Call) or is_constant:
        return False
    name = called_name(value)
    if name in ("cache", "lru_cache"):
        return True
    return name in ("set", "dict", "list") or (name[:1].isupper() and name not in STATELESS_CALLS)


def exists(variable: str) -> bool:
    module, _, name = variable.rpartition(".")
    return hasattr(import_module(module), name)


@pytest.mark.slow
def test_every_module_level_cache_is_registered() -> None:
    caches = {f"{module}.{name}" for module, tree in product_modules() for name in caches_in(tree)}
    registered = {cache.variable for cache in process_caches.CACHES}
    assert len(caches) > len(registered)  # the search works
    assert caches - registered - RESOURCES == set(), "add it to telemetry_site.process_caches"


def test_registered_and_exempt_variables_exist() -> None:
    variables = {cache.variable for cache in process_caches.CACHES} | RESOURCES
    assert [variable for variable in sorted(variables) if not exists(variable)] == []


def test_reset_empties_every_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    caches = [
        process_caches.ProcessCache(name, lambda name=name: called.append(name))  # type: ignore[misc]
        for name in ("first", "second")
    ]
    monkeypatch.setattr(process_caches, "CACHES", caches)
    process_caches.reset()
    assert called == ["first", "second"]
