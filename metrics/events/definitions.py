"""Events of devices, metric definitions and exports."""

from datetime import datetime

from metrics.events.event import EventData


class DeviceEvent(EventData, frozen=True, kw_only=True):
    """An event about one device."""

    channel = "devices"
    device_id: str

    @property
    def subject(self) -> str:
        return f"device/{self.device_id}"

    @property
    def visible_device(self) -> str | None:
        return self.device_id


class DeviceCreated(DeviceEvent, frozen=True, kw_only=True):
    """A device was created, by a person or by its first point."""

    type = "device.created"
    name: str = ""


class DeviceUpdated(DeviceEvent, frozen=True, kw_only=True):
    """Fields or groups of a device were changed; `changed` names them."""

    type = "device.updated"
    name: str = ""
    changed: list[str]


class DeviceSilent(DeviceEvent, frozen=True, kw_only=True):
    """A device has sent nothing for longer than its limit, and is shown as offline."""

    type = "device.silent"
    last_seen: datetime
    offline_after_seconds: int


class DeviceBack(DeviceEvent, frozen=True, kw_only=True):
    """A silent device has sent points again."""

    type = "device.back"
    last_seen: datetime


class DeviceDeleted(DeviceEvent, frozen=True, kw_only=True):
    """A device was deleted; its points are deleted soon after."""

    type = "device.deleted"


class MetricEvent(EventData, frozen=True, kw_only=True):
    """An event about one metric definition."""

    channel = "definitions"
    everyone = True
    name: str
    metric_id: str
    data_type: str
    unit: str

    @property
    def subject(self) -> str:
        return f"metric/{self.name}"


class MetricDefined(MetricEvent, frozen=True, kw_only=True):
    """A metric definition was created."""

    type = "metric.defined"


class MetricUpdated(MetricEvent, frozen=True, kw_only=True):
    """Fields of a metric definition were changed; `changed` names them."""

    type = "metric.updated"
    changed: list[str]


class MetricDeleted(MetricEvent, frozen=True, kw_only=True):
    """A metric definition was deleted; its points are kept."""

    type = "metric.deleted"


class JobEvent(EventData, frozen=True, kw_only=True):
    """An event about one background export. Only the user who ordered it sees it on a page."""

    channel = "jobs"
    job_id: str
    format: str
    status: str
    progress: float
    rows: int
    user_id: int  # 0: ordered by an API key, so no user sees the event

    @property
    def subject(self) -> str:
        return f"job/{self.job_id}"

    @property
    def owner(self) -> int | None:
        return self.user_id


class JobCreated(JobEvent, frozen=True, kw_only=True):
    """An export was ordered and is queued."""

    type = "job.created"


class JobProgressed(JobEvent, frozen=True, kw_only=True):
    """An export was started or has written more rows; at most two events a second."""

    type = "job.progressed"


class JobFinished(JobEvent, frozen=True, kw_only=True):
    """An export is done or was cancelled, see `status`."""

    type = "job.finished"


class JobFailed(JobEvent, frozen=True, kw_only=True):
    """An export has failed; `detail` gives the reason."""

    type = "job.failed"
    detail: str
