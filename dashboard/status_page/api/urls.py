"""Addresses of the API of status pages."""

from django.urls import path

from dashboard.status_page.api.incidents import StatusIncidentResource, StatusMaintenanceResource
from dashboard.status_page.api.pages import StatusComponentResource, StatusPageResource
from rest.resources import COLLECTION, ITEM

_PAGE = "status-pages/<id:page_id>"

urlpatterns = [
    path("status-pages", StatusPageResource.as_view(COLLECTION)),
    path(_PAGE, StatusPageResource.as_view(ITEM)),
    path(f"{_PAGE}/components", StatusComponentResource.as_view(COLLECTION)),
    path(f"{_PAGE}/components/<id:component_id>", StatusComponentResource.as_view(ITEM)),
    path(f"{_PAGE}/incidents", StatusIncidentResource.as_view(COLLECTION)),
    path(f"{_PAGE}/incidents/<id:incident_id>", StatusIncidentResource.as_view(ITEM)),
    path(f"{_PAGE}/incidents/<id:incident_id>/updates", StatusIncidentResource.as_view({"post": "add_update"})),
    path(f"{_PAGE}/maintenances", StatusMaintenanceResource.as_view(COLLECTION)),
    path(f"{_PAGE}/maintenances/<id:incident_id>", StatusMaintenanceResource.as_view(ITEM)),
    path(f"{_PAGE}/maintenances/<id:incident_id>/updates", StatusMaintenanceResource.as_view({"post": "add_update"})),
]
