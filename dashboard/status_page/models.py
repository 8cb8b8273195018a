"""Status pages, their components, incidents, planned maintenance, subscribers and deliveries."""

import secrets
from functools import partial
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from metrics.models import NAME_LENGTH, Audited

ID_LENGTH = 24
SLUG_LENGTH = 50
HOST_LENGTH = 253
ADDRESS_LENGTH = 2000
MAX_TEXT_LENGTH = 10_000


def new_public_id(prefix: str) -> str:
    """Return a random ID: it says nothing about the rows of this site."""
    return prefix + secrets.token_hex(8)


def _id_field(prefix: str) -> Any:
    default = partial(new_public_id, prefix)
    return models.CharField(max_length=ID_LENGTH, unique=True, default=default, editable=False)


def _names(length: int = NAME_LENGTH) -> Any:
    return ArrayField(models.CharField(max_length=length), default=list, blank=True)


def _created_at() -> Any:
    return models.DateTimeField(default=timezone.now, editable=False)


def _updated_at() -> Any:
    return models.DateTimeField(auto_now=True, db_default=Now())


class StatusPage(Audited):
    """A public page with the state of some components; nothing is public unless a component names it."""

    page_id = _id_field("page_")
    slug = models.CharField(max_length=SLUG_LENGTH, unique=True, help_text="Part of the address: /status/SLUG/.")
    host_name = models.CharField(
        max_length=HOST_LENGTH,
        unique=True,
        null=True,
        blank=True,
        help_text="Host name that shows the page at its root, such as status.example.com. Empty: none.",
    )
    title = models.CharField(max_length=NAME_LENGTH)
    text = models.TextField(blank=True, max_length=MAX_TEXT_LENGTH, help_text="Text below the title.")
    published = models.BooleanField(default=False, help_text="Off: only people who may change the page see it.")
    time_zone = models.CharField(
        max_length=64, default="UTC", help_text="Time zone of the times and days of the page, such as Europe/Berlin."
    )
    created_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True, editable=False)
    created_at = _created_at()
    updated_at = _updated_at()

    audit_name = "slug"

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return self.title


class StateMode(models.TextChoices):
    """How the state of a component follows from its alerts, or that of a group from its components."""

    WORST = "worst", "Worst of all"
    SHARE = "share", "By affected share"


class StatusComponent(Audited):
    """A part of a page: a group of components, or a leaf that is measured by the alerts of its devices and rules.

    A leaf is measured by alerts that match each list below that is not empty. A component without any is a group.
    """

    component_id = _id_field("cmp_")
    page = models.ForeignKey(StatusPage, models.CASCADE, related_name="components")
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    name = models.CharField(max_length=NAME_LENGTH, help_text="Public name.")
    description = models.TextField(blank=True, max_length=MAX_TEXT_LENGTH, help_text="Public description.")
    position = models.PositiveIntegerField(default=0, help_text="Order among the components of the same group.")
    device_groups = _names()
    rule_ids = _names(ID_LENGTH)
    tags = models.JSONField(default=dict, blank=True, help_text="Tags of devices: all must match.")
    mode = models.CharField(
        max_length=5,
        choices=StateMode.choices,
        default=StateMode.WORST,
        help_text="worst: the state is that of the worst alert or component. share: it follows from the share of"
        " devices or components that are affected.",
    )
    partial_percent = models.PositiveSmallIntegerField(
        default=25,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="By share: percent of affected devices or components from which it is a partial outage.",
    )
    major_percent = models.PositiveSmallIntegerField(
        default=50,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="By share: percent from which it is a major outage.",
    )
    created_at = _created_at()
    updated_at = _updated_at()

    class Meta:
        ordering = ["position", "id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_leaf(self) -> bool:
        """Whether the component is measured by alerts."""
        return bool(self.device_groups or self.rule_ids or self.tags)


class ComponentHistory(models.Model):
    """Summary of the past days of a component, computed for the page.

    measured_since  when the first rule that measures it existed, or its first alert was triggered
    device_count    devices that it covers, of components with state by share
    through         last local day with a row in ComponentDay
    days            of the last days, oldest first: [known, down, degraded, maintenance] seconds, or null
    totals          sums by number of days before today: {"90": {"total": seconds, …}, …}
    """

    component = models.OneToOneField(StatusComponent, models.CASCADE, related_name="history")
    measured_since = models.DateTimeField(null=True)
    device_count = models.PositiveIntegerField(default=0)
    through = models.DateField(null=True)
    days = models.JSONField(default=list)
    totals = models.JSONField(default=dict)


class ComponentDay(models.Model):
    """Durations of one local day of a component, exact to the microsecond.

    known, down                outside of nothing: the raw figures
    known_clear, down_clear    the same without the time of maintenance
    """

    component = models.ForeignKey(StatusComponent, models.CASCADE, related_name="day_rows")
    day = models.DateField()
    total = models.DurationField()
    known = models.DurationField()
    down = models.DurationField()
    degraded = models.DurationField()
    maintenance = models.DurationField()
    known_clear = models.DurationField()
    down_clear = models.DurationField()

    class Meta:
        ordering = ["day"]
        constraints = [models.UniqueConstraint(fields=["component", "day"], name="one_row_per_component_and_day")]


class ComponentGap(models.Model):
    """Time in which all devices of a component were silent: its state was unknown unless an alert was open."""

    component = models.ForeignKey(StatusComponent, models.CASCADE, related_name="gaps")
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["began_at"]
        constraints = [
            models.UniqueConstraint(fields=["component"], condition=Q(ended_at=None), name="one_open_gap_per_component")
        ]


class IncidentKind(models.TextChoices):
    INCIDENT = "incident"
    MAINTENANCE = "maintenance"


class IncidentStatus(models.TextChoices):
    """Status of an incident (the first five) or of a maintenance, as in Statuspage."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"
    POSTMORTEM = "postmortem"
    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress", "In progress"
    VERIFYING = "verifying"
    COMPLETED = "completed"


STATUSES: dict[str, tuple[IncidentStatus, ...]] = {
    IncidentKind.INCIDENT: tuple(IncidentStatus)[:5],
    IncidentKind.MAINTENANCE: tuple(IncidentStatus)[5:],
}
ENDED = (IncidentStatus.RESOLVED, IncidentStatus.POSTMORTEM, IncidentStatus.COMPLETED)


class Impact(models.TextChoices):
    NONE = "none"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"
    MAINTENANCE = "maintenance"


class StatusIncident(Audited):
    """An incident or a planned maintenance; its texts are its updates.

    starts_at  when it began, or the maintenance is scheduled for
    ends_at    when it was resolved, or until when the maintenance is scheduled
    closed_at  when its last status was reached
    """

    incident_id = _id_field("sin_")
    page = models.ForeignKey(StatusPage, models.CASCADE, related_name="incidents")
    kind = models.CharField(max_length=11, choices=IncidentKind.choices, default=IncidentKind.INCIDENT)
    title = models.CharField(max_length=NAME_LENGTH)
    status = models.CharField(max_length=13, choices=IncidentStatus.choices)
    impact = models.CharField(max_length=11, choices=Impact.choices, default=Impact.MINOR)
    components = models.ManyToManyField(StatusComponent, blank=True, related_name="incidents")
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True, editable=False)
    created_at = _created_at()
    updated_at = _updated_at()

    audit_name = "incident_id"

    class Meta:
        verbose_name = "incident of a status page"
        verbose_name_plural = "incidents of status pages"
        ordering = ["-starts_at", "-id"]
        indexes = [models.Index(fields=["page", "kind", "-starts_at"], name="status_incident_by_time")]

    def __str__(self) -> str:
        return self.title

    @property
    def is_open(self) -> bool:
        return self.status not in ENDED


class StatusUpdate(Audited):
    """One message of an incident or a maintenance, with the status that it reports. Sent to subscribers once."""

    update_id = _id_field("upd_")
    incident = models.ForeignKey(StatusIncident, models.CASCADE, related_name="updates")
    status = models.CharField(max_length=13, choices=IncidentStatus.choices)
    text = models.TextField(blank=True, max_length=MAX_TEXT_LENGTH)
    at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True, editable=False)

    audit_name = "update_id"

    class Meta:
        verbose_name = "update of an incident"
        verbose_name_plural = "updates of incidents"
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.status}: {self.text}"


class IncidentTemplate(Audited):
    """Title and text that an incident or a maintenance of a page may begin with."""

    template_id = _id_field("tpl_")
    page = models.ForeignKey(StatusPage, models.CASCADE, related_name="templates")
    name = models.CharField(max_length=NAME_LENGTH)
    kind = models.CharField(max_length=11, choices=IncidentKind.choices, default=IncidentKind.INCIDENT)
    title = models.CharField(max_length=NAME_LENGTH)
    status = models.CharField(max_length=13, choices=IncidentStatus.choices, default=IncidentStatus.INVESTIGATING)
    impact = models.CharField(max_length=11, choices=Impact.choices, default=Impact.MINOR)
    text = models.TextField(blank=True, max_length=MAX_TEXT_LENGTH)

    class Meta:
        verbose_name = "incident template"
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["page", "name"], name="one_template_per_page_and_name")]

    def __str__(self) -> str:
        return self.name


class SubscriberKind(models.TextChoices):
    EMAIL = "email", "e-mail"
    WEBHOOK = "webhook"


class StatusSubscriber(models.Model):
    """An address that is notified of the updates of a page once its owner has confirmed it.

    components  only updates of these; none: all of the page
    requested   component IDs of the last request, which the owner of the address has yet to confirm
    """

    subscriber_id = _id_field("ssb_")
    page = models.ForeignKey(StatusPage, models.CASCADE, related_name="subscribers")
    kind = models.CharField(max_length=7, choices=SubscriberKind.choices)
    address = models.CharField(max_length=ADDRESS_LENGTH)
    components = models.ManyToManyField(StatusComponent, blank=True, related_name="subscribers")
    requested = _names(ID_LENGTH)
    confirmed_at = models.DateTimeField(null=True, editable=False)
    created_at = _created_at()

    class Meta:
        verbose_name = "subscriber of a status page"
        verbose_name_plural = "subscribers of status pages"
        ordering = ["created_at", "id"]
        constraints = [models.UniqueConstraint(fields=["page", "kind", "address"], name="one_subscriber_per_address")]

    def __str__(self) -> str:
        return self.address


class StatusDelivery(models.Model):
    """One message to one subscriber: claimed with a lease, sent, and retried after a failure.

    update  what is reported; null: the request to confirm the subscription
    """

    subscriber = models.ForeignKey(StatusSubscriber, models.CASCADE, related_name="deliveries")
    update = models.ForeignKey(StatusUpdate, models.CASCADE, null=True, related_name="deliveries")
    created_at = models.DateTimeField(db_default=Now())
    due_at = models.DateTimeField(db_default=Now())
    leased_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    finished_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True, default="", db_default="")

    class Meta:
        verbose_name_plural = "status deliveries"
        constraints = [
            models.UniqueConstraint(fields=["subscriber", "update"], name="one_delivery_per_update"),
            models.UniqueConstraint(
                fields=["subscriber"],
                condition=Q(update=None, finished_at=None),
                name="one_waiting_confirmation",
            ),
        ]
        indexes = [models.Index(fields=["due_at"], condition=Q(finished_at=None), name="status_delivery_due")]
