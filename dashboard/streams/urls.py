"""Addresses of the streaming API."""

from django.urls import path

from dashboard.streams.api import SubscriptionResource, TicketView
from rest.resources import COLLECTION

urlpatterns = [
    path("subscribe", SubscriptionResource.as_view(COLLECTION)),
    path("subscribe/<id:subscription_id>", SubscriptionResource.as_view({"delete": "destroy"})),
    path("tickets", TicketView.as_view()),
]
