"""States of deployments in JSON, of an endpoint that is polled or of a webhook. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ingest.collectors.formats.json_paths import find_one
from ingest.collectors.reading import CollectFailed, Deployment, Reading

MAX_DEPLOYMENTS = 100
MAX_TEXT_LENGTH = 200
# Names of the fields, the first that a deployment has.
ID_FIELDS = ("deployment_id", "id", "deploymentId")
VERSION_FIELDS = ("version", "target_version", "ref", "sha", "image")
STATE_FIELDS = ("state", "status", "conclusion")
TIME_FIELDS = ("updated_at", "finished_at", "completed_at", "started_at", "created_at", "timestamp", "at")
FAILED_STATES = frozenset({"failed", "failure", "error", "cancelled", "canceled", "rolled_back", "timed_out"})


def read_deployments(document: Any, path: str = "$") -> list[Deployment]:
    """Return the deployments of a document: the object at a path, or the objects of the array there.

    Raises CollectFailed.
    """
    found = document if path == "$" else find_one(document, path)
    if found is None:
        raise CollectFailed(f"{path} matches nothing")
    items = found if isinstance(found, list) else [found]
    if len(items) > MAX_DEPLOYMENTS:
        raise CollectFailed(f"{len(items):,} deployments: at most {MAX_DEPLOYMENTS} are accepted")
    return [_read(item, number) for number, item in enumerate(items)]


def deployment_readings(deployments: Sequence[Deployment]) -> Iterator[Reading]:
    """Yield the metrics of the newest deployment: by its time, else the first."""
    if not deployments:
        return
    newest = max(deployments, key=lambda deployment: deployment.at or datetime.min.replace(tzinfo=UTC))
    yield Reading("deployment.version", newest.version)
    yield Reading("deployment.state", newest.state)
    yield Reading("deployment.failed", float(newest.state.lower() in FAILED_STATES))


def _read(item: Any, number: int) -> Deployment:
    if not isinstance(item, Mapping):
        raise CollectFailed(f"deployment {number} is no object: an object with version and state is accepted")
    version, state = _text(item, VERSION_FIELDS), _text(item, STATE_FIELDS)
    if not version or not state:
        missing, names = ("version", VERSION_FIELDS) if not version else ("state", STATE_FIELDS)
        raise CollectFailed(f"deployment {number} has no {missing}: one of the fields {', '.join(names)} is required")
    return Deployment(_text(item, ID_FIELDS) or version, version, state, _time(item))


def _text(item: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        value = item.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
            printable = "".join(character for character in str(value).strip() if character.isprintable())
            return printable[:MAX_TEXT_LENGTH]
    return ""


def _time(item: Mapping[str, Any]) -> datetime | None:
    for name in TIME_FIELDS:
        value = item.get(name)
        try:
            if isinstance(value, str):
                time = datetime.fromisoformat(value)
                return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        except (ValueError, OverflowError, OSError):
            continue
    return None
