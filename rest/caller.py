"""Who comes, and what it may do and see: people, keys and services alike.

What somebody sees is a matter of device groups, and one method applies it: `Device.objects.visible_to(caller)`, or
the same names of groups in a question about points (`Caller.narrowed`). A device that is not seen looks like one that
does not exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import models

OPERATORS = "operators"  # the group of people who are operators


class Scope(models.TextChoices):
    """What a caller may do. `ingest` writes, `read` reads, `operate` also changes alerts, `admin` does everything."""

    INGEST = "ingest"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


WRITERS = frozenset({Scope.INGEST, Scope.ADMIN})
READERS = frozenset({Scope.READ, Scope.OPERATE, Scope.ADMIN})


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request comes from.

    name       `user:…` for people, `key:<number>:…` for keys
    device_id  the only device that it may speak for and hear of
    groups     names of the device groups that it sees; None: everything
    expires    seconds since 1970
    members    the devices of these groups, for keys and tokens; people's are looked up with what they ask
    """

    name: str
    scope: str
    device_id: str | None = None
    groups: tuple[str, ...] | None = None
    expires: float = float("inf")
    members: frozenset[str] | None = field(default=None, repr=False)

    is_authenticated = True  # what DRF asks of a user

    def get_username(self) -> str:
        """What a user is asked for."""
        return self.name

    @property
    def is_admin(self) -> bool:
        return self.scope == Scope.ADMIN and self.device_id is None and self.groups is None

    def may_write(self, device_id: str) -> bool:
        within = self.groups is None or device_id in (self.members or ())
        return within and self.scope in WRITERS and self.device_id in (None, device_id)

    def may_read(self, device_id: str | None) -> bool:
        """Whether it may ask about this device; None means any device at all. What it then sees, groups decide."""
        if self.device_id is not None:
            return self.device_id == device_id  # its own, also with a key that only ingests
        return self.scope in READERS and (device_id is None or self.members is None or device_id in self.members)

    def may(self, scope: str) -> bool:
        """Whether it may do what needs this scope: `operate` or `admin`."""
        if scope == Scope.ADMIN:
            return self.is_admin
        return self.device_id is None and self.scope in (scope, Scope.ADMIN)

    def narrowed(self, groups: Sequence[str] | None) -> tuple[str, ...] | None:
        """The groups to ask for where these were asked for (None: no matter which), of those that it sees."""
        if self.groups is None:
            return None if groups is None else tuple(groups)
        return self.groups if groups is None else tuple(name for name in groups if name in self.groups)

    @classmethod
    def internal(cls, name: str) -> "Caller":
        """A command of this installation."""
        return cls(name, Scope.ADMIN)

    @classmethod
    def of_user(cls, user: Any) -> "Caller":
        """A person: superusers are admins, the group `operators` operates, everybody else who is active views."""
        name = f"user:{user.get_username()}"
        if user.is_superuser:
            return cls(name, Scope.ADMIN)
        operates = user.groups.filter(name=OPERATORS).exists()
        groups = tuple(user.device_groups.values_list("name", flat=True))
        return cls(name, Scope.OPERATE if operates else Scope.READ, groups=groups)


def caller_of(user: Any) -> Caller:
    """The caller of a request whose user this is; a person is looked up once for all that a request asks."""
    if isinstance(user, Caller):
        return user
    if not hasattr(user, "_caller"):
        user._caller = Caller.of_user(user)
    return user._caller
