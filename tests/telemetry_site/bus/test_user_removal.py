"""`user.deleted` of another service: access ends, and what the user owned goes to a successor."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from alerts.models import Alert, Silence
from ingest.identity import tokens
from ingest.models import TokenFamily
from metrics.models import AuditEntry, ExportJob, Revision
from telemetry_site.bus.inbound.handlers import handle
from telemetry_site.bus.inbound.incoming_event import IncomingEvent, InvalidEvent
from tests.conftest import ApiClient

pytestmark = pytest.mark.usefixtures("site")
User: Any = get_user_model()


def user_deleted(number: int = 1, **data: Any) -> str:
    return handle(IncomingEvent(f"event {number}", "/accounts", "user.deleted", data))


@pytest.fixture
def boss() -> Any:
    return User.objects.create_superuser("boss")


@pytest.fixture
def mei(boss: Any) -> Any:
    """A user who owns one of everything that has an owner."""
    mei = User.objects.create_user("mei", "mei@example.com", "a-good-password-1")
    ExportJob.objects.create(owner="user:mei", question={}, format="csv")
    ExportJob.objects.create(owner="user:other", question={}, format="csv")
    now = timezone.now()
    Silence.objects.create(reason="works", created_by="user:mei", ends_at=now + timedelta(hours=1))
    Silence.objects.create(
        reason="over", created_by="user:mei", starts_at=now - timedelta(2), ends_at=now - timedelta(1)
    )
    Alert.objects.create(owner="user:mei", metric_name="t", level="warning", triggered_at=now, last_breach_at=now)
    return mei


def owners() -> dict[str, list[str]]:
    return {
        "exports": sorted(ExportJob.objects.values_list("owner", flat=True)),
        "silences": sorted(Silence.objects.values_list("created_by", flat=True)),
        "alerts": sorted(Alert.objects.values_list("owner", flat=True)),
    }


@pytest.mark.slow
def test_user_is_disabled_with_sessions_and_tokens(mei: Any) -> None:
    client = Client()
    client.force_login(mei)
    issued = tokens.issue_for_user(mei)
    assert tokens.find_owner(issued.access_token) is not None
    assert client.get("/").status_code == 200
    before = Revision.objects.get().number

    user_deleted(username="mei")

    mei.refresh_from_db()
    assert not mei.is_active
    assert not mei.has_usable_password()
    assert client.get("/").status_code == 302
    assert tokens.find_owner(issued.access_token) is None
    assert tokens.refresh(issued.refresh_token) is None
    assert not TokenFamily.objects.filter(revoked_at=None).exists()
    assert Revision.objects.get().number > before  # other processes drop what they have cached of the user


@pytest.mark.slow
def test_first_active_superuser_gets_what_the_user_owned(mei: Any) -> None:
    result = user_deleted(username="mei")

    assert owners() == {
        "exports": ["user:boss", "user:other"],
        "silences": ["user:boss", "user:mei"],  # a silence that has ended keeps the name of its creator
        "alerts": ["user:boss"],
    }
    assert result == "user mei is disabled; boss got 1 exports, 1 silences, 1 alerts"
    entry = AuditEntry.objects.get(action="handed over")
    assert (entry.actor, entry.object_id) == ("bus:/accounts", "mei")
    assert '"owner": "boss"' in entry.after
    assert AuditEntry.objects.filter(action="changed", object_type="user", object_id="mei").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "named",
    [
        pytest.param({"username": "mei"}, id="username"),
        pytest.param({"user_id": "mei"}, id="user_id"),
        pytest.param({"email": "MEI@example.com"}, id="email"),
    ],
)
def test_named_successor_gets_what_the_user_owned(mei: Any, named: dict[str, str]) -> None:
    User.objects.create_user("jo")
    user_deleted(successor="jo", **named)
    assert owners()["exports"] == ["user:jo", "user:other"]
    assert owners()["alerts"] == ["user:jo"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param({}, "username is missing", id="nobody named"),
        pytest.param({"username": 12}, "username must be a text of 1 to 150 characters", id="number"),
        pytest.param({"user_id": 1}, "user_id must be a text of 1 to 150 characters", id="number of another service"),
        pytest.param({"username": "mei", "successor": ["jo"]}, "successor must be a text", id="list of successors"),
        pytest.param(
            {"username": "mei", "successor": "nobody"}, "successor must be the name of another active", id="unknown"
        ),
        pytest.param(
            {"username": "mei", "successor": "mei"}, "successor must be the name of another active", id="same"
        ),
        pytest.param(
            {"username": "mei", "successor": "gone"}, "successor must be the name of another active", id="disabled"
        ),
        pytest.param({"email": "two@example.com"}, "email belongs to several users", id="ambiguous email"),
        pytest.param({"username": "boss"}, "user boss is the last active admin", id="last admin"),
    ],
)
def test_unusable_event_changes_nothing_and_names_the_field(mei: Any, data: dict[str, Any], reason: str) -> None:
    User.objects.create_user("gone", is_active=False)
    User.objects.create_user("one", "two@example.com")
    User.objects.create_user("two", "Two@example.com")
    before = owners()

    with pytest.raises(InvalidEvent, match=f"^{reason}"):
        user_deleted(**data)

    assert owners() == before
    assert set(User.objects.filter(is_active=False).values_list("username", flat=True)) == {"gone"}


@pytest.mark.slow
def test_unknown_and_repeated_users_change_nothing(mei: Any) -> None:
    assert user_deleted(username="unknown") == "user unknown does not exist"
    user_deleted(2, username="mei")
    after = owners()
    assert user_deleted(2, username="mei") == "processed already"
    assert user_deleted(3, username="mei").endswith("0 exports, 0 silences, 0 alerts")
    assert owners() == after


@pytest.mark.slow
def test_user_without_keys_of_their_own_leaves_keys_of_devices_valid(mei: Any, device: ApiClient) -> None:
    user_deleted(username="mei")
    assert (
        device.post(
            "devices/device_001/telemetry", {"timestamp": timezone.now().isoformat(), "metric_name": "t", "value": 1}
        ).status
        == 200
    )
