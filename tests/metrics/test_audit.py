"""Audit entries of every change, in order, and the detection of manipulation."""

import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.models import ApiKey
from metrics.audit.actor import acting_as
from metrics.audit.record import MAX_VALUE_BYTES, record
from metrics.audit.sign_ins import FAILED, MAX_FAILED_PER_MINUTE, UNKNOWN_USER
from metrics.audit.verify_chain import verify_audit
from metrics.devices import group_membership
from metrics.models import AuditEntry, Device, DeviceGroup, MetricDefinition
from metrics.storage.connection import connect
from metrics.storage.write.group_commit import stop_writer
from rest.caller import Caller
from tests.conftest import ApiClient
from tests.metrics.test_definitions_api import BATTERY
from tests.metrics.test_storage import TODAY, store_points

HOUR = 3600_000_000


def last_entry() -> AuditEntry:
    return AuditEntry.objects.get(number=AuditEntry.objects.count())


def recorded_actions(after_number: int = 0) -> list[tuple[str, str, str]]:
    return list(
        AuditEntry.objects.filter(number__gt=after_number)
        .order_by("number")
        .values_list("action", "object_type", "object_id")
    )


# --- recorded changes -------------------------------------------------------------------------------


def test_metric_changes_by_api_are_recorded_with_before_and_after(admin: ApiClient):
    last_number = AuditEntry.objects.count()
    response = admin.post("metrics", BATTERY, X_Request_ID="made-by-me-1")
    entry = last_entry()
    assert entry.request_id == response.headers["X-Request-ID"] == "made-by-me-1"
    assert entry.actor == f"key:{ApiKey.objects.get().pk}:admin of all" and entry.address == "127.0.0.1"
    assert entry.was == {} and {name: entry.became[name] for name in BATTERY} == BATTERY
    assert admin.call("PATCH", "metrics/battery_level", {"retention_days": 30, "unit": "percent"}).status == 200
    assert (last_entry().was, last_entry().became) == ({"retention_days": 90}, {"retention_days": 30})
    assert admin.call("DELETE", "metrics/battery_level").status == 200
    assert last_entry().was["retention_days"] == 30 and last_entry().became == {}
    kind = ("metric definition", "battery_level")
    assert recorded_actions(last_number) == [("created", *kind), ("changed", *kind), ("deleted", *kind)]


def test_update_without_change_is_not_recorded(site: None):
    definition = MetricDefinition.objects.create(name="level", data_type="numeric")
    last_number = AuditEntry.objects.count()
    definition.save()
    assert recorded_actions(last_number) == []


def test_rolled_back_change_is_not_recorded_and_leaves_no_gap(site: None):
    Device.objects.create(device_id="a")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Device.objects.create(device_id="b")
        raise ZeroDivisionError
    Device.objects.create(device_id="c")
    assert [entry.object_id for entry in AuditEntry.objects.order_by("number")] == ["a", "c"]
    assert list(AuditEntry.objects.order_by("number").values_list("number", flat=True)) == [1, 2]


def test_before_values_are_the_stored_ones(site: None):
    device = Device.objects.create(device_id="a", name="first")
    Device.objects.filter(pk=device.pk).update(name="second")
    device.name = "third"
    device.save()
    assert (last_entry().was, last_entry().became) == ({"name": "second"}, {"name": "third"})


def test_key_changes_are_recorded_without_secrets(site: None):
    key, text = ApiKey.issue("boiler", "ingest", Device.objects.create(device_id="boiler"))
    assert last_entry().became["device"] == "boiler" and "digest" not in last_entry().became
    ApiKey.objects.filter(pk=key.pk).delete()
    assert last_entry().action == "deleted" and last_entry().was["scope"] == "ingest"
    assert not AuditEntry.objects.filter(after__contains=text).exists()


def test_key_deleted_with_its_device_is_recorded(site: None):
    device = Device.objects.create(device_id="boiler")
    ApiKey.issue("boiler", "ingest", device)
    last_number = AuditEntry.objects.count()
    device.delete()
    assert sorted(recorded_actions(last_number)) == [("deleted", "API key", "boiler"), ("deleted", "device", "boiler")]


@pytest.mark.slow
def test_group_membership_changes_are_recorded_per_user(site: None):
    mei = get_user_model().objects.create_user("mei", password="of some length")
    assert last_entry().became["password"] == "(hidden)"
    east = DeviceGroup.objects.create(name="east")
    east.members.add(mei)
    assert (last_entry().object_type, last_entry().object_id, last_entry().became) == (
        "device group",
        "east",
        {"members": ["mei"]},
    )
    mei.device_groups.clear()
    assert (last_entry().object_type, last_entry().object_id, last_entry().was) == (
        "user",
        "mei",
        {"device_groups": ["east"]},
    )
    mei.set_password("another of some length")
    mei.save()
    assert (last_entry().was, last_entry().became) == ({"password": "(hidden)"}, {"password": "(hidden)"})


@pytest.mark.slow
def test_bulk_group_change_is_one_entry_with_the_count(site: None):
    Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(1000))
    east = DeviceGroup.objects.create(name="east")
    device_pks = list(Device.objects.values_list("pk", flat=True))
    last_number = AuditEntry.objects.count()
    group_membership.add_devices(east, device_pks)
    assert (last_entry().object_id, last_entry().became) == ("east", {"devices": {"count": 1000}})
    group_membership.remove_devices(east, device_pks[:400])
    assert (last_entry().object_id, last_entry().was) == ("east", {"devices": {"count": 400}})
    assert len(recorded_actions(last_number)) == 2


def test_devices_created_by_ingestion_are_not_recorded(gateway: ApiClient):
    last_number = AuditEntry.objects.count()
    body = {"timestamp": "2026-01-01T00:00:00Z", "metric_name": "m", "value": 1}
    assert gateway.post("devices/new/telemetry", body).status in (200, 422)
    assert recorded_actions(last_number) == []


@pytest.mark.slow
def test_sign_ins_are_recorded_without_unknown_names(site: None):
    get_user_model().objects.create_user("mei", password="of some length")
    client = Client()
    form = {"username": "mei", "password": "of some length"}
    assert client.post("/login/", form).status_code == 302
    assert (last_entry().actor, last_entry().action, last_entry().object_id) == ("user:mei", "signed in", "mei")
    client.post("/logout/")
    assert (last_entry().actor, last_entry().action) == ("user:mei", "signed out")
    client.post("/login/", form | {"password": "wrong"})
    assert (last_entry().actor, last_entry().action, last_entry().object_id) == ("anonymous", FAILED, "mei")
    client.post("/login/", form | {"username": "my secret"})
    assert (last_entry().action, last_entry().object_id) == (FAILED, UNKNOWN_USER)
    assert last_entry().address == "127.0.0.1"


@pytest.mark.slow
def test_failed_sign_ins_over_the_limit_are_not_recorded(site: None, settings: Any):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for number in range(MAX_FAILED_PER_MINUTE + 5):
        Client().post("/login/", {"username": f"name{number}", "password": "guess"})
    assert AuditEntry.objects.filter(action=FAILED).count() == MAX_FAILED_PER_MINUTE


def test_recorded_action_has_the_current_actor(site: None):
    key, _ = ApiKey.issue("boiler", "ingest")
    with acting_as(Caller.internal("command:rotate")):
        record("rotated", key, after={"expires_at": "soon"})
        assert (last_entry().actor, last_entry().action, last_entry().object_id) == (
            "command:rotate",
            "rotated",
            "boiler",
        )
    record("replayed", ("rejected points", "everything"), after={"count": 7})
    assert (last_entry().actor, last_entry().object_type, last_entry().became) == (
        "system",
        "rejected points",
        {"count": 7},
    )


def test_long_values_are_omitted(site: None):
    record("imported" * 20, ("device" * 20, "d" * 999), after={"text": "x" * MAX_VALUE_BYTES})
    assert last_entry().became == {"omitted": "65,548 bytes", "fields": ["text"]}
    assert (len(last_entry().action), len(last_entry().object_type), len(last_entry().object_id)) == (50, 50, 400)


# --- API --------------------------------------------------------------------------------------------


def test_admin_lists_audit_newest_first_and_filtered(admin: ApiClient):
    for name in ("a", "b"):
        admin.post("metrics", {"name": name, "data_type": "numeric"})
    page = admin.get("audit?limit=2").json
    assert [entry["object_id"] for entry in page["entries"]] == ["b", "a"]
    older = admin.get(f"audit?limit=2&cursor={page['next_cursor']}").json["entries"]
    assert [entry["number"] for entry in older] == [page["entries"][-1]["number"] - 1]
    assert page["total"] == AuditEntry.objects.count() and page["entries"][0]["after"]["data_type"] == "numeric"
    assert re.fullmatch("[0-9a-f]{64}", page["entries"][0]["checksum"])
    entries = admin.get("audit?action=created&object_type=metric%20definition&object_id=a").json["entries"]
    assert [entry["object_id"] for entry in entries] == ["a"]
    assert admin.get(f"audit?actor={entries[0]['actor'].replace(' ', '%20')}").json["total"] == 2
    assert admin.get("audit?until=2020-01-01T00:00:00Z").json["total"] == 0
    assert admin.get("audit?since=2020-01-01T00:00:00Z").json["total"] == page["total"]
    response = admin.get("audit?since=yesterday")
    assert response.status == 400 and response.json["errors"][0]["field"] == "since"


@pytest.mark.parametrize("caller_name", ["gateway", "reader", "device", "operator", "viewer", "stranger"])
def test_audit_is_forbidden_to_other_callers(request: pytest.FixtureRequest, caller_name: str):
    assert request.getfixturevalue(caller_name).get("audit").status == 403


def test_audit_accepts_admin_session_and_rejects_anonymous(administrator: ApiClient, anonymous: ApiClient):
    assert administrator.get("audit").status == 200
    assert anonymous.get("audit").status == 401


# --- checksum chain ---------------------------------------------------------------------------------


@pytest.fixture
def entries(site: None) -> Any:
    """Create eight entries and three commits, the last commit after the entries; yield a connection."""
    for number in range(8):
        if number in (0, 4):
            store_points([(1, TODAY + number, 1.0, b"")])
        record("changed", ("device", f"d{number}"), {"name": "é"}, {"name": str(number)})
    stop_writer()
    store_points([(1, TODAY + 8, 1.0, b"")])  # records the eighth entry
    with connect() as storage:
        yield storage


def tamper(connection: Any, statement: str, *values: Any) -> None:
    """Execute a statement with the triggers disabled, as the owner of the table can."""
    connection.execute("ALTER TABLE metrics_auditentry DISABLE TRIGGER USER")
    connection.execute(statement, values)


def run_verify_audit() -> str:
    output = StringIO()
    call_command("verify_audit", stdout=output)
    return output.getvalue()


def test_unchanged_audit_is_valid(entries: Any):
    assert run_verify_audit() == "3 commits are valid\n8 audit entries are valid\n"
    [heads] = entries.execute("SELECT heads FROM metrics_auditentry WHERE number = 5").fetchone()
    assert heads.startswith("0:2:")


@pytest.mark.parametrize("statement", ["UPDATE metrics_auditentry SET actor = 'me'", "DELETE FROM metrics_auditentry"])
def test_audit_entries_cannot_be_changed_or_deleted(entries: Any, statement: str):
    with pytest.raises(DatabaseError, match="never changed or deleted"), connection.cursor() as cursor:
        cursor.execute(statement)
    with pytest.raises(DatabaseError, match="never changed or deleted"):
        last_entry().delete()
    assert verify_audit(entries) == (8, None)


COLUMNS = [field.column for field in AuditEntry._meta.concrete_fields if field.column != "number"]
OTHERS = {
    "bigint": "{0} + 100",
    "timestamp with time zone": "{0} + interval '1 microsecond'",
    "bytea": "set_byte({0}, {1} %% 32, get_byte({0}, {1} %% 32) # 1)",
    "text": "overlay({0} placing '?' from 1 + {1} %% greatest(length({0}), 1))",
}


def other_value_sql(connection: Any, column: str, position: int) -> str:
    """Return an SQL expression for a value other than the stored one."""
    [[kind]] = connection.execute(
        "SELECT data_type FROM information_schema.columns WHERE table_name = 'metrics_auditentry' AND column_name = %s",
        (column,),
    ).fetchall()
    return OTHERS["text" if kind == "character varying" else kind].format(column, position)


changes = st.one_of(
    st.tuples(st.just("change"), st.integers(1, 8), st.sampled_from(COLUMNS), st.integers(0, 31)),
    st.tuples(st.just("delete"), st.integers(1, 8)),
    st.tuples(st.just("insert"), st.integers(1, 8)),
    st.tuples(st.just("swap"), st.integers(1, 8), st.integers(1, 8)).filter(lambda given: given[1] != given[2]),
)


@pytest.mark.slow
@given(change=changes)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_manipulation_is_detected_at_its_first_entry(entries: Any, change: Any):
    with entries.transaction(force_rollback=True):
        match change:
            case ("change", number, column, place):
                value = other_value_sql(entries, column, place)
                tamper(entries, f"UPDATE metrics_auditentry SET {column} = {value} WHERE number = %s", number)
                first = number
            case ("delete", number):
                tamper(entries, "DELETE FROM metrics_auditentry WHERE number = %s", number)
                first = number
            case ("insert", number):
                columns = ", ".join(column for column in COLUMNS if column != "id")
                tamper(
                    entries,
                    f"INSERT INTO metrics_auditentry (number, {columns}) SELECT 9, {columns} FROM metrics_auditentry"
                    " WHERE number = %s",
                    number,
                )
                first = 9
            case ("swap", one, other):
                tamper(entries, "UPDATE metrics_auditentry SET number = -1 WHERE number = %s", one)
                entries.execute("UPDATE metrics_auditentry SET number = %s WHERE number = %s", (one, other))
                entries.execute("UPDATE metrics_auditentry SET number = %s WHERE number = -1", (other,))
                first = min(one, other)
        valid_entries, broken = verify_audit(entries)
        assert broken is not None and (broken.number, valid_entries) == (first, first - 1)
    assert verify_audit(entries) == (8, None)


FORGED = """
DO $$ DECLARE one metrics_auditentry; link bytea := ''; BEGIN
    FOR one IN SELECT * FROM metrics_auditentry ORDER BY number LOOP
        link := sha256(link || one.digest || convert_to(one.id || ' ' || one.number || ' ' || one.heads, 'UTF8'));
        UPDATE metrics_auditentry SET checksum = link WHERE id = one.id;
    END LOOP;
    UPDATE metrics_audithead SET checksum = link, number = (SELECT max(number) FROM metrics_auditentry);
END $$
"""
FORGED_JOURNAL = """
DO $$ DECLARE one metrics_journal; link bytea := ''; BEGIN
    FOR one IN SELECT * FROM metrics_journal ORDER BY seq LOOP
        link := sha256(link || sha256(one.payload_digest || convert_to(one.entries, 'UTF8')));
        UPDATE metrics_journal SET checksum = link, digest = sha256(payload_digest || convert_to(entries, 'UTF8'))
            WHERE seq = one.seq;
    END LOOP;
    UPDATE metrics_head SET checksum = link, seq = (SELECT max(seq) FROM metrics_journal);
END $$
"""


@pytest.mark.parametrize(
    ("change", "forgery", "message"),
    [
        ("UPDATE metrics_audithead SET checksum = sha256('')", "", "audit entry 8: the head of the chain"),
        ("DELETE FROM metrics_audithead", "", "audit entry 8: the head of the chain"),
        ("UPDATE metrics_audithead SET number = 9", "", "audit entry 9: entries 9 to 9 are missing"),
        ("UPDATE metrics_auditentry SET number = NULL WHERE number = 8", "", "audit entry 8: 1 entries are not in"),
        ("UPDATE metrics_auditentry SET at = 'infinity' WHERE number = 3", "", "audit entry 3: its content was"),
        ("UPDATE metrics_auditentry SET number = 0 WHERE number = 1", "", "audit entry 0: it was inserted before"),
        # A rewritten chain is consistent in itself; the other chain has recorded its original state.
        ("UPDATE metrics_auditentry SET heads = '' WHERE number = 3", FORGED, "entry 8: .* of commit 3 of shard 0"),
        ("DELETE FROM metrics_auditentry WHERE number = 8", FORGED, "entry 8: commit 3 of shard 0 refers to entry 8"),
        ("UPDATE metrics_journal SET entries = replace(entries, 'test', 'me') WHERE seq = 2", FORGED_JOURNAL,
         "commit 2: it differs from what audit entry 5 recorded"),
        ("DELETE FROM metrics_journal WHERE seq > 1", FORGED_JOURNAL, "commit 2: audit entry 5 recorded commit 2"),
    ],
)  # fmt: skip
def test_truncating_or_rewriting_one_chain_is_detected(entries: Any, change: str, forgery: str, message: str):
    tamper(entries, change)
    if forgery:
        entries.execute(forgery)
    try:
        with pytest.raises(CommandError, match=message):
            run_verify_audit()
    finally:
        entries.execute("ALTER TABLE metrics_auditentry ENABLE TRIGGER USER")


def test_first_broken_link_of_each_chain_is_reported(entries: Any):
    tamper(entries, "UPDATE metrics_auditentry SET actor = 'me' WHERE number = 2")
    entries.execute("UPDATE metrics_journal SET entries = replace(entries, 'test', 'me') WHERE seq = 1")
    entries.execute("ALTER TABLE metrics_auditentry ENABLE TRIGGER USER")
    with pytest.raises(CommandError, match=r"shard 0, commit 1: .*; audit entry 2: "):
        run_verify_audit()


def test_audit_is_valid_after_journal_retention(entries: Any):
    entries.execute("DELETE FROM metrics_journal WHERE seq < 3")
    assert run_verify_audit() == "1 commits are valid\n8 audit entries are valid\n"


def test_long_admin_transaction_blocks_neither_ingestion_nor_other_admins(site: None):
    with transaction.atomic():
        Device.objects.create(device_id="slow")
        store_points([(1, TODAY, 1.0, b"")])
        with connect(statement_timeout="2s") as other:
            other.execute(
                "INSERT INTO metrics_auditentry (at, actor, request_id, address, action, object_type, object_id,"
                " before, after, heads, digest) VALUES (now(), 'me', '', '', 'x', 'y', 'z', '', '', '', sha256(''))"
            )
    assert [entry.number for entry in AuditEntry.objects.order_by("id")] == [2, 1]


def test_times_with_unusual_offsets_are_parsed_correctly(admin: ApiClient) -> None:
    assert admin.get("audit?since=9522-06-10T05:42:44%2B17:46").json["entries"] == []
    assert admin.get("audit?until=9522-06-10T05:42:44-23:59").status == 200
    response = admin.get("audit?since=0001-01-01T00:00:00%2B17:00")
    assert (response.status, [error["field"] for error in response.json["errors"]]) == (400, ["since"])
