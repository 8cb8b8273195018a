"""Serializers of tokens and API keys."""

from datetime import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from ingest.authentication import MAX_KEY_LENGTH
from ingest.models import ApiKey
from metrics.models import Device, DeviceGroup
from rest.caller import Scope
from rest.errors import InvalidField
from rest.fields import ChoiceField, NewName, StrictSerializer, name_field
from rest.names import name_error
from rest.responses import ResponseSerializer

DAY = 86_400
MAX_OVERLAP = 30 * DAY
MAX_USERNAME_LENGTH = 150  # as in Django
MAX_PASSWORD_LENGTH = 1024
REQUIRED_FIELDS = {"password": ("username", "password"), "api_key": ("api_key",)}
UNCHANGEABLE_FIELDS = ("scope", "device_id", "group")


class SignInSerializer(StrictSerializer):
    grant_type = ChoiceField([(name, name) for name in REQUIRED_FIELDS], help_text="Type of the credential.")
    username = serializers.CharField(max_length=MAX_USERNAME_LENGTH, required=False, help_text="With `password`.")
    password = serializers.CharField(
        max_length=MAX_PASSWORD_LENGTH, trim_whitespace=False, required=False, help_text="With `password`."
    )
    api_key = serializers.CharField(max_length=MAX_KEY_LENGTH, required=False, help_text="With `api_key`.")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        super().validate(attributes)
        required = REQUIRED_FIELDS[attributes["grant_type"]]
        if missing := [name for name in required if name not in attributes]:
            raise serializers.ValidationError(dict.fromkeys(missing, "is required"))
        return attributes


@extend_schema_serializer(component_name="Refresh")
class RefreshTokenSerializer(StrictSerializer):
    refresh_token = serializers.CharField(max_length=MAX_KEY_LENGTH)


@extend_schema_serializer(component_name="TokenAnswer")
class TokensSerializer(ResponseSerializer):
    access_token = serializers.CharField(help_text="For `Authorization: Bearer`.")
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds until the access token expires.")
    refresh_token = serializers.CharField(help_text="Valid for one refresh.")
    refresh_expires_in = serializers.IntegerField(help_text="Seconds until the refresh token expires.")


class _NamedField(serializers.SlugRelatedField[Any]):
    """A related row, by its name."""

    def to_internal_value(self, name: Any) -> Any:
        if not isinstance(name, str) or "\0" in name:  # PostgreSQL rejects NUL
            self.fail("invalid")
        return super().to_internal_value(name)


@extend_schema_serializer(component_name="ApiKey")
class KeySerializer(StrictSerializer, serializers.ModelSerializer[ApiKey]):
    """An API key without its secret text. It may be bound to a device or to a device group."""

    scope = ChoiceField(
        Scope.choices,
        help_text="`ingest` sends points, `read` reads, `operate` also acts on alerts, `admin` does everything.",
    )
    name = name_field(validators=[NewName(name_error)], help_text="Name of the key.")
    device_id = _NamedField(
        "device_id",
        source="device",
        queryset=Device.objects.all(),
        allow_null=True,
        required=False,
        help_text="Device that the key is bound to.",
    )
    group = _NamedField(
        "name",
        queryset=DeviceGroup.objects.all(),
        allow_null=True,
        required=False,
        help_text="Device group that the key is bound to.",
    )
    valid = serializers.BooleanField(
        source="is_valid", read_only=True, help_text="Whether the key is neither revoked nor expired."
    )

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = (
            "id", "name", "prefix", "scope", "device_id", "group", "valid", "created_at", "updated_at",
            "expires_at", "revoked_at", "last_used_at", "rotated_from",
        )  # fmt: skip
        read_only_fields = (
            "id", "prefix", "created_at", "updated_at", "revoked_at", "last_used_at", "rotated_from",
        )  # fmt: skip

    def validate_expires_at(self, moment: datetime | None) -> datetime | None:
        if moment is not None and moment <= timezone.now():
            raise serializers.ValidationError("must be in the future; to invalidate a key now, revoke it")
        return moment

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if self.instance is not None and (fixed := sorted(set(self.initial_data) & set(UNCHANGEABLE_FIELDS))):
            raise serializers.ValidationError(dict.fromkeys(fixed, "cannot be changed: create another key"))
        if attributes.get("device") and attributes.get("group"):
            raise InvalidField("group", "cannot be combined with device_id")
        return attributes


@extend_schema_serializer(component_name="NewApiKey")
class NewKeySerializer(KeySerializer):
    """An API key with its secret text, which is returned only once."""

    key = serializers.SerializerMethodField(
        help_text="Secret text of the key. It is not stored and cannot be read again."
    )

    class Meta(KeySerializer.Meta):
        fields = (*KeySerializer.Meta.fields, "key")

    def get_key(self, key: ApiKey) -> str:
        text: str = self.context["text"]
        return text


@extend_schema_serializer(component_name="Rotation")
class KeyRotationSerializer(StrictSerializer):
    overlap_seconds = serializers.IntegerField(
        min_value=0, max_value=MAX_OVERLAP, default=DAY, help_text="Seconds until the old key expires."
    )
