"""The OpenAPI 3.1 schema is complete, valid, and equal to the committed file."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings as site_settings
from django.core.management import call_command
from jsonschema import Draft202012Validator

from telemetry_site.api_docs import CANONICAL_PREFIX, SHORT_PREFIX
from tests.conftest import ApiClient
from tests.telemetry_site.routes import all_routes

COMMITTED = Path(site_settings.BASE_DIR) / "docs" / "openapi.yaml"
SCHEMA: dict[str, Any] = yaml.safe_load(COMMITTED.read_text())
OPERATIONS = [
    pytest.param(operation, id=operation["operationId"])
    for path in SCHEMA["paths"].values()
    for operation in path.values()
]
PUBLIC_OPERATIONS = {
    "get_health",
    "get_detailed_health",
    "get_liveness",
    "get_readiness",
    "get_public_status",
    "create_token",
    "refresh_token",
    "revoke_token",
    "report_deployment",  # with the token of its collector
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS)


@pytest.mark.slow
def test_generated_schema_is_valid_and_equals_the_committed_file(tmp_path: Path):
    generated = tmp_path / "openapi.yaml"
    call_command("spectacular", file=str(generated), validate=True, fail_on_warn=True)
    assert generated.read_text() == COMMITTED.read_text(), "the OpenAPI schema has changed: run `make schema`"
    assert SCHEMA["openapi"] == "3.1.0"


@every_operation
def test_every_operation_has_id_summary_description_and_tag(operation: dict[str, Any]):
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", operation["operationId"])
    assert operation["summary"] and not operation["summary"].endswith(".")
    assert operation["description"].endswith(".")
    assert [tag["name"] for tag in SCHEMA["tags"] if tag["name"] in operation["tags"]] == operation["tags"]
    parameters = [parameter for parameter in operation.get("parameters", []) if "$ref" not in parameter]
    assert all(parameter.get("description") for parameter in parameters)


@every_operation
def test_every_operation_declares_its_authentication(operation: dict[str, Any]):
    if {} not in operation.get("security", [{}]):  # with {}, anonymous callers are answered too
        assert {"401", "403", "429", "503"} <= set(operation["responses"])
        assert {"apiKey": []} in operation["security"]
    else:
        assert operation["operationId"] in PUBLIC_OPERATIONS


@pytest.mark.parametrize("path", [path for path in SCHEMA["paths"] if "{" in path])
def test_operations_on_a_named_object_declare_404(path: str):
    operations = {operation["operationId"]: operation["responses"] for operation in SCHEMA["paths"][path].values()}
    # The webhook answers an unknown collector like a wrong token.
    assert [name for name, responses in operations.items() if "404" not in responses] in ([], ["report_deployment"])


@every_operation
def test_every_operation_has_examples_that_match_its_schemas(operation: dict[str, Any]):
    request_bodies = operation.get("requestBody", {}).get("content", {}).values()
    responses = [response for code, response in operation["responses"].items() if code.startswith("2")]
    response_bodies = [body for response in responses for body in response.get("content", {}).values()]
    assert all(any("examples" in body for body in bodies) for bodies in (request_bodies, response_bodies) if bodies)
    required = [parameter for parameter in operation.get("parameters", []) if parameter.get("required")]
    assert all(parameter.get("examples") for parameter in required)
    for element in [*request_bodies, *response_bodies, *operation.get("parameters", [])]:
        for example in element.get("examples", {}).values():
            _validate(example["value"], element["schema"])


def _validate(value: Any, schema: dict[str, Any]) -> None:
    Draft202012Validator(schema | {"components": SCHEMA["components"]}).validate(value)


def test_operation_ids_are_unique():
    names = [operation.values[0]["operationId"] for operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_every_route_is_described_once():
    described = {(path, verb.upper()) for path, verbs in SCHEMA["paths"].items() for verb in verbs}
    api_routes = [route for route in all_routes() if route.template.startswith(("/api/v1/", "/health"))]
    assert {(route.template, route.method) for route in api_routes} - described == set()
    short = [
        path for path in SCHEMA["paths"] if path.startswith(SHORT_PREFIX) and not path.startswith(CANONICAL_PREFIX)
    ]
    assert not any(path.replace(SHORT_PREFIX, CANONICAL_PREFIX, 1) in SCHEMA["paths"] for path in short)


@pytest.mark.slow
def test_schema_is_public_as_json_and_yaml(anonymous: ApiClient):
    for path, accept, kind in (
        ("/api/schema/", "*/*", "application/json"),
        ("/api/schema/", "application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
        ("/api/schema/?format=json", "*/*", "application/json"),
        ("/api/schema/", "application/yaml", "application/yaml"),
        ("/api/schema/?format=yaml", "*/*", "application/yaml"),
    ):
        response = anonymous.get(path, Accept=accept)
        assert (response.status, response.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8"), path
        assert yaml.safe_load(response.raw) == SCHEMA
        assert "json" not in kind or json.loads(response.raw) == SCHEMA


@pytest.mark.slow
def test_private_schema_requires_authentication(anonymous: ApiClient, reader: ApiClient, settings: Any):
    settings.PUBLIC_SCHEMA = False
    for path in ("/api/schema/", "/api/docs/", "/api/docs/redoc/"):
        assert anonymous.get(path).status == 401
        assert reader.get(path).status == 200


@pytest.mark.slow
def test_invalid_key_still_reads_the_public_schema(anonymous: ApiClient):
    assert anonymous.get("/api/schema/", X_Api_Key="tk_nobodys").status == 200
