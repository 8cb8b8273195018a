"""The caller of a request (a person, an API key or a service), its scope and the devices it sees.

Device groups decide what a caller sees: `Device.objects.visible_to(caller)` filters rows, `Caller.narrowed` the groups
of a query. A device that a caller does not see looks like one that does not exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import models

OPERATORS = "operators"  # Django group of operators


class Scope(models.TextChoices):
    """Scopes: `ingest` writes points, `read` reads, `operate` also changes alerts, `admin` does everything."""

    INGEST = "ingest"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


WRITERS = frozenset({Scope.INGEST, Scope.ADMIN})
READERS = frozenset({Scope.READ, Scope.OPERATE, Scope.ADMIN})


@dataclass(frozen=True, slots=True)
class Caller:
    """Caller of a request.

    name       `user:…` for people, `key:<number>:…` for API keys
    device_id  the only device that it may write and read
    groups     names of the device groups that it sees; None: all devices
    expires    seconds since 1970
    members    device IDs of these groups, for keys and tokens; None for people, whose queries filter by group
    """

    name: str
    scope: str
    device_id: str | None = None
    groups: tuple[str, ...] | None = None
    expires: float = float("inf")
    members: frozenset[str] | None = field(default=None, repr=False)

    is_authenticated = True  # read by DRF

    def get_username(self) -> str:
        """Return the name, like a Django user."""
        return self.name

    @property
    def is_admin(self) -> bool:
        return self.scope == Scope.ADMIN and self.sees_all

    @property
    def sees_all(self) -> bool:
        """Whether the caller sees the objects of every device."""
        return self.device_id is None and self.groups is None

    @property
    def sees_some(self) -> bool:
        """Whether the caller sees any device: a person in no group sees none."""
        return self.device_id is not None or self.groups != ()

    def may_write(self, device_id: str) -> bool:
        within = self.groups is None or device_id in (self.members or ())
        return within and self.scope in WRITERS and self.device_id in (None, device_id)

    def may_read(self, device_id: str | None) -> bool:
        """Return whether the caller may read a device, or any device for None; groups then limit the rows."""
        if self.device_id is not None:
            return self.device_id == device_id  # its own device, even with scope ingest
        return self.scope in READERS and (device_id is None or self.members is None or device_id in self.members)

    def may(self, scope: str) -> bool:
        """Return whether the caller has a scope: `operate` or `admin`."""
        if scope == Scope.ADMIN:
            return self.is_admin
        return self.device_id is None and self.scope in (scope, Scope.ADMIN)

    def narrowed(self, groups: Sequence[str] | None) -> tuple[str, ...] | None:
        """Return the requested groups (None: all) that the caller sees; None for no restriction."""
        if self.groups is None:
            return None if groups is None else tuple(groups)
        return self.groups if groups is None else tuple(name for name in groups if name in self.groups)

    @classmethod
    def internal(cls, name: str) -> "Caller":
        """Return the caller of a management command."""
        return cls(name, Scope.ADMIN)

    @classmethod
    def of_user(cls, user: Any) -> "Caller":
        """Return the caller of a person: superusers are admins, members of `operators` operate, others read."""
        name = f"user:{user.get_username()}"
        if user.is_superuser:
            return cls(name, Scope.ADMIN)
        operates = user.groups.filter(name=OPERATORS).exists()
        groups = tuple(user.device_groups.values_list("name", flat=True))
        return cls(name, Scope.OPERATE if operates else Scope.READ, groups=groups)


def caller_of(user: Any) -> Caller:
    """Return the caller of a request's user; a person is looked up once per request."""
    if isinstance(user, Caller):
        return user
    if not hasattr(user, "_caller"):
        user._caller = Caller.of_user(user)
    return user._caller
