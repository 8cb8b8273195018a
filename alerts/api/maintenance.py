"""Maintenance of one device: opened before a reboot and ended after it, by whoever operates or by the device itself."""

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts import silences
from alerts.api import examples
from alerts.api.checking import Unprocessable, checked
from alerts.api.silences import SilenceSerializer, silence_answer
from alerts.models import Silence, SilenceKind
from metrics.api.answers import Done
from metrics.models import Device
from rest.configuration import Known
from rest.errors import InvalidFields
from rest.idempotency import idempotent
from rest.openapi import Tag, operation, state
from rest.permissions import caller

LONGEST = int(silences.MAX_DURATION / timedelta(minutes=1))
LONGEST_OWN = int(silences.MAX_DEVICE_MAINTENANCE / timedelta(minutes=1))


class MayMaintain(BasePermission):
    """The device itself, whatever its key is for; else those who operate."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        seen = caller(request)
        return seen.device_id == view.kwargs["device_id"] if seen.device_id is not None else seen.may("operate")


class Maintenance(Known):
    minutes = serializers.IntegerField(
        min_value=1, max_value=LONGEST, help_text=f"From now on; a device asks for {LONGEST_OWN} at most."
    )
    reason = serializers.CharField(
        max_length=silences.MAX_REASON_LENGTH, default="Maintenance", help_text="Why, for those who wonder."
    )


class MaintenanceView(APIView):
    permission_classes = [MayMaintain]

    @operation(
        "open_maintenance",
        "Say that a device is being worked on",
        tag=Tag.ALERTS,
        description="Its alerts notify nobody meanwhile. A key that is bound to the device may say so for it, for"
        f" {LONGEST_OWN // 60} hours at most.",
        request=Maintenance,
        answer=SilenceSerializer,
        status=201,
        errors=(404, 422),
        parameters=[state(201)],
        asked={"minutes": 30, "reason": "Reboot"},
        answered=examples.KNOWN_SILENCE
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
        fields, seen = checked(Maintenance(data=request.data)), caller(request)
        _see(request, device_id)
        ends_at, reason = timezone.now() + timedelta(minutes=fields["minutes"]), fields["reason"]
        try:
            if seen.device_id is not None:
                made = silences.create_device_maintenance(seen, ends_at, reason)
            else:
                whole = {
                    "kind": SilenceKind.MAINTENANCE,
                    "device_ids": [device_id],
                    "ends_at": ends_at,
                    "reason": reason,
                }
                made = silences.create_silence(whole, seen)
        except InvalidFields as error:
            told = {"minutes" if name == "ends_at" else name: detail for name, detail in error.fields}
            raise Unprocessable(told) from None
        return silence_answer(made, status.HTTP_201_CREATED)

    @operation(
        "end_maintenance",
        "Say that a device is not being worked on any more",
        tag=Tag.ALERTS,
        description="Ends every maintenance of this device alone; those of several devices go on.",
        answer=Done,
        errors=(404,),
        answered={"success": True, "message": "maintenance of device_001 is over"},
    )
    def delete(self, request: Request, device_id: str) -> Response:
        _see(request, device_id)
        with transaction.atomic():
            running = Silence.objects.filter(
                kind=SilenceKind.MAINTENANCE, device_ids=[device_id], ends_at__gt=timezone.now()
            )
            for silence in running.order_by("pk").select_for_update():
                silences.end_silence(silence, caller(request))
        return Response({"success": True, "message": f"maintenance of {device_id} is over"})


def _see(request: Request, device_id: str) -> None:
    """Raises NotFound where the caller does not see this device."""
    visible = Device.objects.visible_to(caller(request))
    if "\0" in device_id or not visible.filter(device_id=device_id).exists():
        raise NotFound(f"{device_id} is not known")
