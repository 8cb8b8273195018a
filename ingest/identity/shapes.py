"""What goes in and out of the doors of tokens and keys."""

from datetime import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from ingest.authentication import MAX_KEY_LENGTH
from ingest.models import ApiKey
from ingest.wire.validate import InvalidPoint, check_name
from metrics.api.answers import Page
from metrics.api.definitions import ChoiceField
from metrics.models import Device, DeviceGroup
from rest.caller import Scope
from rest.pagination import PageParameters

DAY = 86_400
LONGEST_OVERLAP = 30 * DAY
LONGEST_USERNAME = 150  # Django's own
LONGEST_PASSWORD = 1024
NEEDED = {"password": ("username", "password"), "api_key": ("api_key",)}
FIXED = ("scope", "device_id", "group")


class _Exact(serializers.Serializer[Any]):
    """Fields that are not known are not passed over."""

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(map(str, self.initial_data)) - set(self.fields)):
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not known"))
        return attributes


class SignIn(_Exact):
    grant_type = ChoiceField([(name, name) for name in NEEDED], help_text="What is given for the tokens.")
    username = serializers.CharField(max_length=LONGEST_USERNAME, required=False, help_text="With `password`.")
    password = serializers.CharField(
        max_length=LONGEST_PASSWORD, trim_whitespace=False, required=False, help_text="With `password`."
    )
    api_key = serializers.CharField(max_length=MAX_KEY_LENGTH, required=False, help_text="With `api_key`.")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        super().validate(attributes)
        needed = NEEDED[attributes["grant_type"]]
        if missing := [name for name in needed if name not in attributes]:
            raise serializers.ValidationError(dict.fromkeys(missing, "is needed"))
        return attributes


class Refresh(_Exact):
    refresh_token = serializers.CharField(max_length=MAX_KEY_LENGTH)


class TokenAnswer(serializers.Serializer[Any]):
    access_token = serializers.CharField(help_text="For `Authorization: Bearer`.")
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds that the access token is good.")
    refresh_token = serializers.CharField(help_text="Good for one refresh.")
    refresh_expires_in = serializers.IntegerField(help_text="Seconds until one has to sign in again.")


class _NamedField(serializers.SlugRelatedField[Any]):
    """The row of this name."""

    def to_internal_value(self, name: Any) -> Any:
        if not isinstance(name, str) or "\0" in name:  # which PostgreSQL cannot even look for
            self.fail("invalid")
        return super().to_internal_value(name)


@extend_schema_serializer(component_name="ApiKey")
class KeySerializer(serializers.ModelSerializer[ApiKey]):
    """A key without its text. It is bound to a device, to a group of devices, or to nothing."""

    scope = ChoiceField(Scope.choices, help_text="`ingest` writes, `read` reads, `operate` acts too, `admin` does all.")
    device_id = _NamedField(
        "device_id",
        source="device",
        queryset=Device.objects.all(),
        allow_null=True,
        required=False,
        help_text="The only device that it is for.",
    )
    group = _NamedField(
        "name",
        queryset=DeviceGroup.objects.all(),
        allow_null=True,
        required=False,
        help_text="The group whose devices alone it is for.",
    )
    valid = serializers.BooleanField(source="is_valid", read_only=True, help_text="Neither revoked nor expired.")

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = (
            "id", "name", "prefix", "scope", "device_id", "group", "valid", "created_at", "updated_at",
            "expires_at", "revoked_at", "last_used_at", "rotated_from",
        )  # fmt: skip
        read_only_fields = (
            "id", "prefix", "created_at", "updated_at", "revoked_at", "last_used_at", "rotated_from",
        )  # fmt: skip

    def validate_name(self, name: str) -> str:
        try:
            return check_name(name, "name")
        except InvalidPoint as error:
            raise serializers.ValidationError(error.detail) from None

    def validate_expires_at(self, moment: datetime | None) -> datetime | None:
        if moment is not None and moment <= timezone.now():
            raise serializers.ValidationError("must be in the future; revoke ends a key at once")
        return moment

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(map(str, self.initial_data)) - set(self.fields)):
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not known"))
        if self.instance is not None and (fixed := sorted(set(self.initial_data) & set(FIXED))):
            raise serializers.ValidationError(dict.fromkeys(fixed, "cannot be changed: make another key"))
        if attributes.get("device") and attributes.get("group"):
            raise serializers.ValidationError({"group": "a key is bound to a device or to a group, not to both"})
        return attributes


@extend_schema_serializer(component_name="NewApiKey")
class NewKeySerializer(KeySerializer):
    """A key with its text, which is shown this once."""

    key = serializers.SerializerMethodField(help_text="The key itself: nowhere to be found afterwards.")

    class Meta(KeySerializer.Meta):
        fields = (*KeySerializer.Meta.fields, "key")

    def get_key(self, made: ApiKey) -> str:
        text: str = self.context["text"]
        return text


class Rotation(_Exact):
    overlap_seconds = serializers.IntegerField(
        min_value=0, max_value=LONGEST_OVERLAP, default=DAY, help_text="How long the old key is still good."
    )


class KeyParameters(PageParameters):
    """What a list of keys is chosen by, for the description of the API; KeyFilter heeds it."""

    scope = serializers.ChoiceField(Scope.choices, required=False, help_text="Of this scope.")
    device_id = serializers.CharField(required=False, help_text="Bound to this device.")
    group = serializers.CharField(required=False, help_text="Bound to this group.")
    valid = serializers.BooleanField(required=False, help_text="Good now, or not any more.")
    search = serializers.CharField(required=False, help_text="Words in the name, or how the key begins.")


class ApiKeys(Page):
    keys = KeySerializer(many=True)
