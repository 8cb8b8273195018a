"""URLs of the event bus API."""

from django.urls import path

from rest.resources import LIST
from telemetry_site.bus.api import ParkedMessageResource

urlpatterns = [
    path("bus/parked", ParkedMessageResource.as_view(LIST)),
    path("bus/parked/<int:number>", ParkedMessageResource.as_view({"get": "retrieve", "delete": "destroy"})),
    path("bus/parked/<int:number>/replay", ParkedMessageResource.as_view({"post": "replay"})),
]
