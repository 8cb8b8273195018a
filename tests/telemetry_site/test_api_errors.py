"""Errors outside of views: problem details for API paths, HTML for pages."""

import pytest

from tests.conftest import ApiClient


@pytest.mark.parametrize("address", ["/api/v1/telemetry/nothing", "/api/nothing", "/api/v1/nothing"])
def test_unknown_api_path_returns_problem_details(admin: ApiClient, address: str):
    response = admin.get(address)
    assert (response.status, response.headers["Content-Type"]) == (404, "application/problem+json")
    assert response.json == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is nothing at this address",
        "errors": [],
        "request_id": response.headers["X-Request-Id"],
    }


def test_unknown_page_returns_an_html_page(anonymous: ApiClient):
    response = anonymous.get("/nothing")
    assert (response.status, response.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*;q=0.5"])
def test_response_is_json_for_every_accept_header(admin: ApiClient, accept: str):
    """The fast lane ignores the Accept header too."""
    for address in ("metrics", "devices/device_001/metrics/temperature/latest", "/health"):
        response = admin.get(address, Accept=accept)
        assert response.status in (200, 404)
        assert response.headers["Content-Type"] in ("application/json", "application/problem+json")
