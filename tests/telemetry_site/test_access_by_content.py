"""The content of every answer, by route, method, lane and credential: nothing of other groups, and no difference
between what a caller must not see and what does not exist."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from alerts.models import Alert, Channel, Rule, Silence
from ingest.identity.trusted_issuers import Service
from ingest.models import ApiKey, Rejected
from metrics.devices import group_membership
from metrics.models import Device
from rest.caller import Scope
from tests.alerts.factories import create_alerts, create_rule
from tests.conftest import ApiClient, ApiResponse, person, point, with_token
from tests.telemetry_site.routes import Route, all_routes
from tests.telemetry_site.test_access import ServiceClient
from tests.telemetry_site.two_sites import (
    MISSING,
    VALUES,
    Site,
    create_shared_objects,
    create_site,
    create_user,
)

NAMES = re.compile(r"{(\w+)}")
FILTERS = ("search", "q", "device_id", "device", "group", "device_group", "rule_id", "rule", "channel", "metric_name")
VARIABLE = re.compile(  # parts that differ between two equal requests
    r"\d{4}-\d\d-\d\d[T ][\d:.]+(?:\+00:00|Z)?|\d\d:\d\d(?=<)|<time[^>]*>[^<]*</time>"
    r"|\"request_id\":\"[^\"]*\"|name=\"csrfmiddlewaretoken\" value=\"\w+\""
    r"|\"(?:milliseconds|uptime_seconds|[a-z0-9_]*latency[a-z0-9_]*|requests|error_rate|points_per_second)\":[^,}]+"
)
OPEN_TO_ALL = (
    "/agent.json",
    "/agent.pyz",
    "/api/docs",
    "/api/schema",
    "/favicon",
    "/health",
    "/livez",
    "/readyz",
    "/status/",
    "/telemetry/public",
)
# What an admin reads of a group somewhere. The names of keys, deletions and senders are for admins and operators only.
TEXTS = ("device", "group", "group-text", "tag", "metadata", "place", "rule", "rule-text", "message", "note", "silence",
    "pattern", "detail", "channel", "route", "delivery", "status-page", "component", "outage", "template", "collector",
    "target", "failure", "release")  # fmt: skip
ADMIN_TEXTS = ("deleted", "key", "operator")
# One client of each kind of credential, with the most rights of its kind.
DIFFERING = {"operator by session", "operator by token", "operate key of the group", "key of the device"}


@pytest.fixture
def sites(admin: ApiClient, settings: Any) -> dict[str, Site]:
    """Two groups with an object of every kind, and objects of both."""
    settings.SERVICES = {"planner": Service("s" * 32, "admin")}
    sites = {word: create_site(word, admin) for word in ("alpha", "beta")}
    create_shared_objects(sites["alpha"], sites["beta"])
    return sites


def clients(port: int, site: Site | None) -> dict[str, ApiClient]:
    """Return clients that see one group, or none, with every kind of credential."""
    found: dict[str, ApiClient] = {}
    for role, operates in (("viewer", False), ("operator", True)):
        name = f"{site.word if site else 'lone'}-{role}"
        user = create_user(name, site.group if site else None, operates)
        found |= {f"{role} by session": person(port, user), f"{role} by token": with_token(port, name)}
    if site is not None:
        device = Device.objects.get(device_id=f"{site.word}-device")
        options: dict[str, dict[str, Any]] = {
            "read key of the group": {"scope": Scope.READ, "group": site.group},
            "operate key of the group": {"scope": Scope.OPERATE, "group": site.group},
            "ingest key of the group": {"scope": Scope.INGEST, "group": site.group},
            "key of the device": {"scope": Scope.INGEST, "device": device},
        }
        for name, fields in options.items():
            found[name] = ApiClient(port, {"X-Api-Key": ApiKey.issue(name, **fields)[1]})
    return found


def admin_clients(admin: ApiClient) -> dict[str, ApiClient]:
    """Return clients of callers that see everything."""
    root = get_user_model().objects.create_superuser("root")
    session, token = person(admin.port, root), with_token(admin.port, "root")
    return {"session": session, "token": token, "key": admin, "service": ServiceClient(admin.port, {})}


def path_of(route: Route, ids: dict[str, str]) -> str:
    return NAMES.sub(lambda name: ids.get(name[1], "nothing"), route.template)


def read_routes() -> list[Route]:
    """Return the routes that are read with GET, except those that answer the same to everybody."""
    routes = [route for route in all_routes() if route.method == "GET"]
    return [route for route in routes if not route.path.startswith(OPEN_TO_ALL)]


def is_page(path: str) -> bool:
    """Return whether a path is a page, which only sessions open."""
    return path.endswith("/") or "/?" in path


def read_requests(ids: dict[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Return all requests that read, naming the objects with these IDs; devices by both methods and prefixes too."""
    device, metric, group = ids["device_id"], ids["metric_name"], ids["name"]
    for route in read_routes():
        path = path_of(route, ids)
        yield "GET", path, None
        if route.template.startswith("/api/v1/telemetry/devices/"):
            yield "HEAD", path, None
            yield "GET", path.replace("/api/v1/telemetry/", "/api/v1/", 1), None
    span = "start_time=2020-01-01T00:00:00Z&end_time=2029-01-01T00:00:00Z"
    times = {"start_time": "2020-01-01T00:00:00Z", "end_time": "2029-01-01T00:00:00Z"}
    api = "/api/v1/telemetry"
    yield "GET", f"{api}/aggregated?metric_name={metric}&aggregation_type=max&interval=86400&{span}", None
    yield "GET", f"{api}/export/csv?device_ids={device}&metric_names={metric}&{span}", None
    yield "GET", f"{api}/alerts/rules/{ids['rule_id']}/trace?device_id={device}", None
    yield "GET", f"/telemetry/history?metric_name={metric}&device_id={device}", None
    yield "GET", f"/telemetry/history?metric_name={metric}", None
    yield "GET", f"/exports/names/metrics/?device={device}", None
    yield "GET", f"/alerts/updates/?shown={ids['alert_id']}", None
    yield "GET", f"/alerts/sparklines/?shown={ids['alert_id']}", None
    for body in (
        {},
        {"devices": [device]},
        {"filters": {"groups": [group]}},
        {"group_by": "group", "aggregation": "max"},
    ):
        yield "POST", f"{api}/query", {"metrics": [metric], **times, **body}
    for body in ({}, {"devices": [device]}, {"groups": [group]}, {"metrics": [metric]}):
        yield "POST", f"{api}/latest", body
    rule = {"name": "x", "metric_name": metric, "condition": ">", "threshold_value": 1}
    yield "POST", f"{api}/alerts/backtest", {"rule_id": ids["rule_id"]}
    for names in ({}, {"device_ids": [device]}, {"device_groups": [group]}):
        yield "POST", f"{api}/alerts/backtest", {"rule": rule | names}
    for matcher in ({"device_ids": [device]}, {"device_groups": [group]}, {"alert_id": ids["alert_id"]}):
        yield "POST", f"{api}/alerts/silences/preview", matcher


def search_requests(ids: dict[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Return requests of every list with every filter that may name an object."""
    values = {"rule_id": ids["rule_id"], "rule": ids["rule_id"], "metric_name": ids["metric_name"]}
    values |= {"group": ids["name"], "device_group": ids["name"], "channel": ids["name"].replace("group", "channel")}
    for route in read_routes():
        if "{" not in route.template:
            for name in FILTERS:
                yield "GET", f"{route.template}?{name}={values.get(name, ids['device_id'])}", None


def write_requests(ids: dict[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Return requests that change the objects with these IDs, with valid bodies; deletions last."""
    device, group, alert = ids["device_id"], ids["name"], ids["alert_id"]
    end = timezone.now().replace(year=timezone.now().year + 1, month=1, day=1).isoformat()
    bodies: dict[str, Any] = {
        "enable": {"enabled": False}, "assign": {"owner": "me"}, "comments": {"note": "mine"},
        "maintenance": {"minutes": 5}, "telemetry": {"timestamp": end, "metric_name": "m", "value": 1.0},
    }  # fmt: skip
    for route in all_routes():
        if route.method != "GET" and "{" in route.template and "{version}" not in route.template:
            name = "x" if "{device_id}" in route.template else "renamed"
            changes = {"name": name} if "device" in route.template else {"reason": "mine"}
            body = bodies.get(route.template.rsplit("/", 1)[-1], changes if route.method == "PATCH" else {})
            if route.template.endswith("groups/{name}/devices"):
                body = {"device_ids": [device]}
            yield route.method, path_of(route, ids), body
    api = "/api/v1/telemetry"
    yield "POST", f"{api}/groups/alpha-group/devices", {"device_ids": [device]}
    yield "POST", f"{api}/alerts/bulk", {"verb": "resolve", "alert_ids": [alert]}
    yield "POST", f"{api}/alerts/bulk", {"verb": "resolve", "filter": {"device_id": device}}
    yield "POST", f"{api}/alerts/silences", {"device_ids": [device], "reason": "mine", "ends_at": end}
    yield "POST", f"{api}/alerts/silences", {"device_groups": [group], "reason": "mine", "ends_at": end}
    yield "POST", f"{api}/alerts/silences", {"alert_id": alert, "reason": "mine", "ends_at": end}
    yield "POST", f"{api}/rejected/replay", {"device_id": device}
    yield "POST", f"{api}/bulk", {device: [bodies["telemetry"]]}
    yield "PATCH", f"{api}/devices/alpha-device", {"groups": [group]}
    for page, fields in (
        (f"/rules/{ids['rule_id']}/switch/", b"enabled=no"),
        (f"/silences/{ids['silence_id']}/end/", b""),
        ("/alerts/act/", f"verb=resolve&alert={alert}".encode()),
        (f"/alerts/{alert}/silence/", b""),
        (f"/rejected/{ids['number']}/dismiss/", b""),
    ):
        yield "POST", page, fields


def send(client: ApiClient, method: str, path: str, body: Any) -> ApiResponse:
    form = {"Content_Type": "application/x-www-form-urlencoded"} if isinstance(body, bytes) else {}
    response = client.call(method, path.replace(" ", "%20"), body, **form)
    assert response.status < 500 or b"worker" in response.raw, (method, path, response.raw)
    return response


def text_of(response: ApiResponse) -> str:
    """Return the body and the headers of a response."""
    headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items() if name != "X-Request-Id")
    return headers + "\n" + response.raw.decode(errors="replace")


def secrets_of(word: str) -> tuple[str, ...]:
    """Return what only the group's members may read, without the word that a request may have named."""
    value = VALUES[word]
    return (word, str(value), f"{value:,}", f"{value:,.0f}", f"{value:.0f}")


def neutral(response: ApiResponse, ids: dict[str, str], word: str) -> str:
    """Return the status and the body of a response, without names from the request and what differs every time."""
    text = response.raw.decode(errors="replace")
    for name, value in sorted(ids.items(), key=lambda item: -len(item[1])):
        if name != "version":
            text = text.replace(value, name)
    text = VARIABLE.sub("", text.replace(word, "WORD"))
    return f"{response.status} {text}"


def first_difference(one: str, other: str) -> tuple[str, str]:
    """Return the surroundings of the first difference of two texts."""
    same = next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), min(len(one), len(other))
    )
    return one[max(0, same - 80) : same + 120], other[max(0, same - 80) : same + 120]


def of_client(client: ApiClient, requests: Iterator[tuple[str, str, Any]]) -> Iterator[tuple[str, str, Any]]:
    """Return the requests without those of pages, if the client has no session."""
    return (request for request in requests if "Cookie" in client.headers or not is_page(request[1]))


def leaks(client: ApiClient, requests: Iterator[tuple[str, str, Any]], secrets: tuple[str, ...]) -> list[str]:
    """Return the requests whose answers contain a secret."""
    return [
        f"{method} {path} {body or ''}: {[secret for secret in secrets if secret in text]}"
        for method, path, body in of_client(client, requests)
        if any(secret in (text := text_of(send(client, method, path, body))) for secret in secrets)
    ]


@pytest.mark.slow
def test_callers_of_a_group_read_nothing_of_another_group(
    sites: dict[str, Site], admin: ApiClient, anonymous: ApiClient
):
    found = {}
    for name, client in (clients(admin.port, sites["alpha"]) | {"anonymous": anonymous}).items():
        found[name] = leaks(client, read_requests(sites["alpha"].ids), secrets_of("beta"))
        if name == "operator by session":
            found[f"{name}, searching"] = leaks(client, search_requests(sites["alpha"].ids), secrets_of("beta"))
    assert {name: answers for name, answers in found.items() if answers} == {}


@pytest.mark.slow
def test_callers_without_groups_read_nothing_of_any_group(sites: dict[str, Site], admin: ApiClient):
    secrets = (*secrets_of("beta"), "shared-", "global-", "global_metric", str(VALUES["alpha"]), f"{VALUES['alpha']:,}")
    found = {
        name: leaks(client, read_requests(MISSING), (*secrets, "alpha"))
        for name, client in clients(admin.port, None).items()
    }
    assert {name: answers for name, answers in found.items() if answers} == {}


@pytest.mark.slow
def test_invisible_objects_look_like_missing_ones(sites: dict[str, Site], admin: ApiClient):
    hidden, differences = sites["beta"], []
    state = state_of(hidden)
    for name, client in clients(admin.port, sites["alpha"]).items():
        if name not in DIFFERING:
            continue
        for make in (read_requests, write_requests):
            pairs = zip(make(hidden.ids), make(MISSING), strict=True)
            for (method, path, body), (_, other_path, other_body) in pairs:
                if is_page(path) and "Cookie" not in client.headers:
                    continue
                answer = neutral(send(client, method, path, body), hidden.ids, "beta")
                other = neutral(send(client, method, other_path, other_body), MISSING, "gamma")
                if answer != other:
                    differences.append((name, method, path, body, *first_difference(answer, other)))
    assert differences == [], "\n".join(map(str, differences))
    assert state_of(hidden) == state


def group_requests(group: str) -> Iterator[tuple[str, str, Any]]:
    """Return requests that select by a device group."""
    api, span = "/api/v1/telemetry", {"start_time": "2020-01-01T00:00:00Z", "end_time": "2029-01-01T00:00:00Z"}
    rule = {"name": "x", "metric_name": "joint", "condition": ">", "threshold_value": 1, "device_groups": [group]}
    yield "POST", f"{api}/query", {"metrics": ["joint"], "groups": [group], **span}
    yield "POST", f"{api}/latest", {"metrics": ["joint"], "groups": [group]}
    yield "POST", f"{api}/alerts/backtest", {"rule": rule}
    yield "POST", f"{api}/alerts/silences/preview", {"device_groups": [group]}
    for path in ("devices?group=", "devices.csv?group=", "alerts?device_group="):
        yield "GET", f"{api}/{path}{group}", None
    for path in ("/devices/?group=", "/alerts/?group=", "/alerts/updates/?since=0&group="):
        yield "GET", f"{path}{group}", None


@pytest.mark.slow
def test_hidden_groups_of_a_visible_device_look_like_missing_ones(sites: dict[str, Site], admin: ApiClient):
    assert admin.post("devices/joint-device/telemetry", point("joint", 3.0)).status == 200
    device = Device.objects.get(device_id="joint-device")
    for site in sites.values():
        group_membership.add_devices(site.group, [device.pk])
    create_alerts(create_rule(name="joint-rule", metric_name="joint"), device)
    differences = []
    for name, client in clients(admin.port, sites["alpha"]).items():
        if name not in DIFFERING:
            continue
        pairs = zip(group_requests("beta-group"), group_requests("gamma-group"), strict=True)
        for (method, path, body), (_, other_path, other_body) in pairs:
            if is_page(path) and "Cookie" not in client.headers:
                continue
            answer = neutral(send(client, method, path, body), {}, "beta")
            other = neutral(send(client, method, other_path, other_body), {}, "gamma")
            if answer != other:
                differences.append((name, method, path, body, *first_difference(answer, other)))
    assert differences == [], "\n".join(map(str, differences))


def state_of(site: Site) -> list[Any]:
    """Return the stored state of the objects that another group must not change."""
    return [
        Rule.objects.values().get(pk=site.rule.pk),
        Alert.objects.values().get(pk=site.alert.pk),
        site.alert.events.count(),
        Silence.objects.values().get(pk=site.silence.pk),
        Device.objects.values().get(device_id=f"{site.word}-device"),
        sorted(Device.objects.filter(groups=site.group).values_list("device_id", flat=True)),
        Channel.objects.filter(name=f"{site.word}-channel").count(),
        Rejected.objects.values().get(pk=site.ids["number"]),
        Silence.objects.filter(reason="mine", device_ids__contains=[f"{site.word}-device"]).count(),
    ]


@pytest.mark.slow
def test_members_and_admins_read_all_that_is_theirs(sites: dict[str, Site], admin: ApiClient):
    """The other tests would pass where nobody sees anything."""
    for name, client in admin_clients(admin).items():
        requests = (request for word in VALUES for request in of_client(client, read_requests(sites[word].ids)))
        text = "\n".join(text_of(send(client, *request)) for request in requests)
        for word, value in VALUES.items():
            own = [*(f"{word}-{text}" for text in (*TEXTS, *ADMIN_TEXTS)), f"{word}_metric", str(value), "shared-rule"]
            assert [entry for entry in own if entry not in text] == [], name
    for name, client in clients(admin.port, sites["alpha"]).items():
        if name.startswith("operator"):
            requests = of_client(client, read_requests(sites["alpha"].ids))
            text = "\n".join(text_of(send(client, *request)) for request in requests)
            texts = TEXTS if name.endswith("by session") else set(TEXTS) - {"template"}  # only pages use templates
            expected = [
                *(f"alpha-{text}" for text in texts),
                "alpha_metric",
                str(VALUES["alpha"]),
                "shared-rule",
                "global-rule",
            ]
            assert [entry for entry in expected if entry not in text] == [], name


@pytest.mark.slow
def test_parameters_of_all_routes_have_ids(sites: dict[str, Site]):
    names = {name for route in all_routes() for name in NAMES.findall(route.template)}
    assert names <= MISSING.keys() and sites["alpha"].ids.keys() == MISSING.keys()


@pytest.mark.slow
def test_owners_of_an_alert_are_offered_from_common_groups_only(sites: dict[str, Site], admin: ApiClient):
    device = Device.objects.get(device_id="alpha-device")
    group_membership.add_devices(sites["beta"].group, [device.pk])
    create_user("beta-operator", sites["beta"].group, operates=True)
    create_user("alpha-colleague", sites["alpha"].group, operates=True)
    operator = person(admin.port, create_user("alpha-operator", sites["alpha"].group, operates=True))
    page = operator.get(f"/alerts/{sites['alpha'].alert.alert_id}/").raw.decode()
    assert "alpha-colleague" in page and "beta-operator" not in page
