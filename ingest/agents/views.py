"""The configuration of a device's agent: read by people and by the agent itself, set by admins."""

from typing import Any

from django.db import transaction
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.agents.configuration import configuration_of, set_configuration
from ingest.agents.models import AgentConfiguration
from ingest.agents.signing import sign_configuration
from metrics.models import Device
from rest.caller import Scope
from rest.etags import check_match, respond_with_etag
from rest.fields import StrictSerializer
from rest.openapi import Tag, operation
from rest.permissions import MayRead, caller
from rest.responses import ResponseSerializer

_PROBES = (
    "Commands (`run`) and files (`path`) whose output is measured, with optional `interval` and `timeout` in seconds."
)
_SETTINGS: dict[str, Any] = {
    "interval": 30.0,
    "probes": [{"name": "pressure", "run": "/usr/local/bin/read-pressure --json", "interval": 60, "timeout": 5}],
}


class AgentConfigurationSerializer(StrictSerializer):
    interval = serializers.FloatField(
        allow_null=True, help_text="Seconds between snapshots; null: as the agent's own configuration says."
    )
    probes = serializers.ListField(child=serializers.DictField(), help_text=_PROBES)


class SignedConfigurationSerializer(ResponseSerializer):
    device_id = serializers.CharField()
    version = serializers.IntegerField(help_text="Time of the last change in seconds since 1970; 0 if nothing is set.")
    interval = serializers.FloatField(allow_null=True)
    probes = serializers.ListField(child=serializers.DictField(), help_text=_PROBES)
    document = serializers.CharField(help_text="The configuration as the JSON text that is signed.")
    signature = serializers.CharField(help_text="Ed25519 signature of the document, in base64.")


class MayReadOrSend(MayRead):
    """Also a gateway, which sends the points of the device, reads the configuration."""

    def has_permission(self, request: Request, view: Any) -> bool:
        sends = request.method in SAFE_METHODS and bool(request.user and request.user.is_authenticated)
        return super().has_permission(request, view) or (sends and caller(request).may_write(view.kwargs["device_id"]))


class AgentConfigurationView(APIView):
    scope_for_changes = Scope.ADMIN
    permission_classes = [MayReadOrSend]

    @operation(
        "get_agent_configuration",
        "Get the configuration of a device's agent",
        tag=Tag.DEVICES,
        description="Returns what the site sets for the edge agent of the device. The agent reads it every five minutes"
        " and verifies the signature with the public key of the site, which it has since its installation.",
        response=SignedConfigurationSerializer,
        errors=(404,),
        response_example={
            "device_id": "pump-7",
            "version": 1766051000,
            **_SETTINGS,
            "document": '{"device_id":"pump-7","version":1766051000,"interval":30.0,"probes":[]}',
            "signature": "base64",
        },
        etag=True,
    )
    def get(self, request: Request, device_id: str) -> Response:
        return _respond(request, configuration_of(_device(request, device_id)))

    @operation(
        "update_agent_configuration",
        "Set the configuration of a device's agent",
        tag=Tag.DEVICES,
        description="Replaces what the site sets for the edge agent of the device; for admins. Probes are used only"
        " where the agent's own configuration has `remote_probes = on`, since the device runs their commands.",
        request=AgentConfigurationSerializer,
        response=SignedConfigurationSerializer,
        errors=(404,),
        request_example=_SETTINGS,
        response_example={
            "device_id": "pump-7",
            "version": 1766051000,
            **_SETTINGS,
            "document": '{"device_id":"pump-7","version":1766051000,"interval":30.0,"probes":[]}',
            "signature": "base64",
        },
        etag=True,
    )
    def put(self, request: Request, device_id: str) -> Response:
        serializer = AgentConfigurationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with transaction.atomic():
            device = _device(request, device_id, lock=True)
            check_match(request, configuration_of(device))
            configuration = set_configuration(device, **serializer.validated_data)
        return _respond(request, configuration)


def _device(request: Request, device_id: str, lock: bool = False) -> Device:
    devices = Device.objects.visible_to(caller(request)).filter(device_id=device_id)
    device = (devices.select_for_update(of=("self",)) if lock else devices).first()
    if device is None:
        raise NotFound(f"device {device_id} does not exist")
    return device


def _respond(request: Request, configuration: AgentConfiguration) -> Response:
    body = {
        "device_id": configuration.device.device_id,
        "version": configuration.version,
        "interval": configuration.interval,
        "probes": configuration.probes,
        **sign_configuration(configuration),
    }
    return respond_with_etag(request, configuration, body)
