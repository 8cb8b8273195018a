"""Interface of the kinds of collectors, and the configuration fields that several of them have."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from rest_framework import serializers

from ingest.collectors.reading import CollectFailed, Deployment, Reading
from rest.fields import StrictSerializer, name_field
from rest.outgoing import ssrf_guard
from rest.outgoing.deadline import Deadline
from rest.outgoing.http_connection import MAX_URL_LENGTH, parse_url, port_of

Collected = Iterable[Reading | Deployment]
FieldErrors = Iterator[tuple[str, str]]
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?\Z|[0-9A-Fa-f:.]{2,45}\Z")


@dataclass(frozen=True, slots=True)
class CollectionJob:
    """One collection: its configuration, its secrets, and the deadline that ends it."""

    collector_id: str
    device_id: str
    configuration: Mapping[str, Any]
    secrets: Mapping[str, str]
    started_at: datetime
    deadline: Deadline

    @property
    def elapsed_ms(self) -> float:
        return self.deadline.elapsed * 1000

    def resolve(self, host: str, port: int) -> list[ssrf_guard.Address]:
        """Return the addresses of a host that collectors may reach. Raises CollectFailed."""
        try:
            timeout = min(ssrf_guard.RESOLVE_TIMEOUT, self.deadline.remaining)
            return ssrf_guard.resolve_allowed_addresses(host, port, ssrf_guard.COLLECTORS, timeout)
        except (ssrf_guard.AddressForbidden, ssrf_guard.NameNotResolved) as error:
            raise CollectFailed(str(error)) from None


class Kind(ABC):
    """One kind of collector.

    configuration_class  the fields of its configuration
    secret_names         secrets that it takes, with a description
    shown_with           fields and secrets that the form shows only with a value of another field: (field, value)
    """

    name: ClassVar[str]
    label: ClassVar[str]
    description: ClassVar[str]
    configuration_class: ClassVar[type[StrictSerializer]]
    secret_names: ClassVar[Mapping[str, str]] = {}
    shown_with: ClassVar[Mapping[str, tuple[str, str]]] = {}

    @abstractmethod
    def target(self, configuration: Mapping[str, Any]) -> str:
        """Return what is collected, in a few words."""

    @abstractmethod
    def collect(self, job: CollectionJob) -> Collected:
        """Yield the measurements. Raises CollectFailed; measurements yielded before are stored."""

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        """Yield (field, error) for errors that single fields do not show, such as a forbidden address."""
        yield from ()


def check_address(field: str, host: str, port: int) -> FieldErrors:
    """Yield an error if collectors must not reach a host; a name that does not resolve now may do so later."""
    try:
        ssrf_guard.resolve_allowed_addresses(host, port, ssrf_guard.COLLECTORS)
    except ssrf_guard.AddressForbidden as forbidden:
        yield field, str(forbidden)
    except ssrf_guard.NameNotResolved:
        return


def check_url(field: str, url: str) -> FieldErrors:
    """Yield an error if collectors must not reach the host of a valid URL."""
    parts = parse_url(url)
    yield from check_address(field, parts.hostname or "", port_of(parts))


def _validate_host(host: str) -> None:
    if not _HOST.match(host):
        raise serializers.ValidationError("a host name or an IP address is accepted, without scheme, port and path")


def validate_url(url: str) -> None:
    """Raise ValidationError for a text that is no URL."""
    try:
        parse_url(url)
    except ValueError as error:
        raise serializers.ValidationError(str(error)) from None


def host_field() -> serializers.CharField:
    return name_field(validators=[_validate_host], label="Host", help_text="Host name or IP address.")


def port_field(default: int | None = None) -> serializers.IntegerField:
    options: dict[str, Any] = {"required": True} if default is None else {"default": default}
    return serializers.IntegerField(min_value=1, max_value=65535, label="Port", help_text="Port.", **options)


def url_field(help_text: str) -> serializers.CharField:
    return serializers.CharField(max_length=MAX_URL_LENGTH, validators=[validate_url], label="URL", help_text=help_text)


def text_field(label: str, help_text: str) -> serializers.CharField:
    """Return a field for one optional line of text."""
    return name_field(default="", allow_blank=True, label=label, help_text=help_text)
