"""Maintenance of one device, opened and ended by operators or by the device itself, for example around a reboot."""

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework import serializers, status
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts import silences
from alerts.api import examples
from alerts.api.silences import SilenceSerializer
from alerts.models import Silence, SilenceKind
from metrics.models import Device
from rest.errors import InvalidFields
from rest.etags import etag
from rest.fields import StrictSerializer
from rest.idempotency import idempotent
from rest.openapi import Tag, etag_header, operation
from rest.permissions import caller
from rest.resources import get_row, validate_body
from rest.responses import SuccessSerializer

MAX_MINUTES = int(silences.MAX_DURATION / timedelta(minutes=1))
MAX_OWN_MINUTES = int(silences.MAX_DEVICE_MAINTENANCE / timedelta(minutes=1))


class MayMaintain(BasePermission):
    """Callers with scope `operate`, and any API key that is bound to the device."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        requester = caller(request)
        if requester.device_id is not None:
            return requester.device_id == view.kwargs["device_id"]
        return requester.may("operate")


class MaintenanceSerializer(StrictSerializer):
    minutes = serializers.IntegerField(
        min_value=1,
        max_value=MAX_MINUTES,
        help_text=f"Duration from now; at most {MAX_OWN_MINUTES} with the key of the device.",
    )
    reason = serializers.CharField(
        max_length=silences.MAX_REASON_LENGTH, default="Maintenance", help_text="Reason, shown to other people."
    )


class MaintenanceView(APIView):
    permission_classes = [MayMaintain]

    @operation(
        "open_maintenance",
        "Start maintenance of a device",
        tag=Tag.ALERTS,
        description="Alerts of the device send no notifications meanwhile. An API key that is bound to the device may"
        f" start its maintenance, for at most {MAX_OWN_MINUTES // 60} hours.",
        request=MaintenanceSerializer,
        response=SilenceSerializer,
        status=201,
        errors=(404, 422),
        parameters=[etag_header(201)],
        request_example={"minutes": 30, "reason": "Reboot"},
        response_example=examples.CREATED_SILENCE
        | {
            "kind": "maintenance",
            "device_ids": ["device_001"],
            "device_groups": [],
            "levels": [],
            "ends_at": "2025-12-18T10:30:00Z",
            "reason": "Reboot",
            "created_by": "key:7:device_001",
        },
    )
    @idempotent
    def post(self, request: Request, device_id: str) -> Response:
        fields = validate_body(MaintenanceSerializer(data=request.data))
        _check_visible(request, device_id)
        try:
            silence = _open_maintenance(request, device_id, **fields)
        except InvalidFields as error:
            raise InvalidFields(
                [("minutes" if name == "ends_at" else name, detail) for name, detail in error.fields]
            ) from None
        body = SilenceSerializer(silence).data
        return Response(body, status.HTTP_201_CREATED, headers={"ETag": etag(silence)})

    @operation(
        "end_maintenance",
        "End maintenance of a device",
        tag=Tag.ALERTS,
        description="Ends every maintenance window of this device alone. Windows of several devices continue.",
        response=SuccessSerializer,
        errors=(404,),
        response_example={"success": True, "message": "maintenance of device_001 has ended"},
    )
    def delete(self, request: Request, device_id: str) -> Response:
        _check_visible(request, device_id)
        with transaction.atomic():
            active = Silence.objects.filter(
                kind=SilenceKind.MAINTENANCE, device_ids=[device_id], ends_at__gt=timezone.now()
            )
            for silence in active.order_by("pk").select_for_update():
                silences.end_silence(silence, caller(request))
        return Response({"success": True, "message": f"maintenance of {device_id} has ended"})


def _open_maintenance(request: Request, device_id: str, minutes: int, reason: str) -> Silence:
    ends_at = timezone.now() + timedelta(minutes=minutes)
    if caller(request).device_id is not None:
        return silences.create_device_maintenance(caller(request), ends_at, reason)
    fields = {"kind": SilenceKind.MAINTENANCE, "device_ids": [device_id], "ends_at": ends_at, "reason": reason}
    return silences.create_silence(fields, caller(request))


def _check_visible(request: Request, device_id: str) -> None:
    """Raise NotFound if the caller does not see the device."""
    get_row(Device.objects.visible_to(caller(request)), device_id=device_id)
