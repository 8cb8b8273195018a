"""The section `collectors` of files for `manage.py apply`."""

from typing import Any

import pytest
import yaml

from alerts.rules.as_code.apply import apply
from alerts.rules.as_code.diff import format_plan
from alerts.rules.as_code.export import export
from alerts.rules.as_code.yaml_reader import InvalidFile
from ingest.collection.models import Collector, CollectorState

pytestmark = pytest.mark.usefixtures("local_targets")

FILE = """
version: 1
collectors:
  - name: front page
    kind: http
    device_id: shop
    configuration:
      url: http://127.0.0.1:9/
    secrets:
      bearer_token: ${SHOP_TOKEN}
    interval: 30
"""
ENVIRONMENT = {"SHOP_TOKEN": "wonderful-secret"}


def run(text: str, environment: dict[str, str] | None = None, **options: Any) -> list[str]:
    return list(format_plan(apply(text.encode(), ENVIRONMENT if environment is None else environment, **options)))


def test_file_creates_a_collector_and_matches_it_afterwards() -> None:
    lines = run(FILE)
    assert lines[0] == "+ collector “front page”" and "    secrets: (hidden)" in lines
    collector = Collector.objects.get()
    assert collector.secrets == {"bearer_token": "wonderful-secret"} and collector.created_by == "command:apply"
    assert CollectorState.objects.filter(collector=collector).exists()
    assert run(FILE) == []
    assert run(FILE.replace("30", "60")) == ["~ collector “front page”", "    interval: 30 → 60"]


def test_export_has_placeholders_and_changes_nothing() -> None:
    run(FILE)
    text = export()
    assert "wonderful" not in text
    assert yaml.safe_load(text)["collectors"][0]["secrets"] == {"bearer_token": "${FRONT_PAGE_BEARER_TOKEN}"}
    assert run(text, {"FRONT_PAGE_BEARER_TOKEN": "wonderful-secret"}) == []
    assert run(export(with_secrets=True), {}) == []


def test_secrets_of_a_file_replace_the_stored_ones_and_are_kept_if_left_out() -> None:
    run(FILE)
    run(FILE.replace("bearer_token: ${SHOP_TOKEN}", "password: x"))
    assert Collector.objects.get().secrets == {"password": "x"}
    run(FILE.replace("    secrets:\n      bearer_token: ${SHOP_TOKEN}\n", ""))
    assert Collector.objects.get().secrets == {"password": "x"}


def test_prune_deletes_collectors_that_are_not_in_the_file() -> None:
    run(FILE)
    assert run("version: 1\ncollectors: []\n", prune=True) == ["- collector “front page”"]
    assert not Collector.objects.exists()


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        (
            "url: http://127.0.0.1:9/",
            "url: http://10.0.0.1/",
            "collectors[0].configuration.url: 10.0.0.1 is not a public",
        ),
        ("url: http://127.0.0.1:9/", "urls: 1", "collectors[0].configuration.urls: is not a known field"),
        ("kind: http", "kind: ftp", "collectors[0].kind: must be one of http, ping"),
        ("interval: 30", "interval: 0", "collectors[0].interval: must be 1 to 86400 seconds"),
        ("interval: 30", "interval: often", "collectors[0].interval: a whole number is accepted"),
        ("bearer_token: ${SHOP_TOKEN}", "bearer_token: ${MISSING}", "environment variable MISSING is not set"),
        ("bearer_token: ${SHOP_TOKEN}", "bearer_token: 5", "collectors[0].secrets: texts by name are accepted"),
        ("\n      bearer_token: ${SHOP_TOKEN}", " text", "collectors[0].secrets"),
        ("\n      url: http://127.0.0.1:9/", " [1]", "collectors[0].configuration: "),
        ("    device_id: shop\n", "", "collectors[0].device_id: is missing"),
    ],
)
def test_invalid_file_is_refused_by_path(before: str, after: str, error: str) -> None:
    assert before in FILE
    with pytest.raises(InvalidFile) as raised:
        run(FILE.replace(before, after))
    assert error in str(raised.value)
    assert not Collector.objects.exists()
