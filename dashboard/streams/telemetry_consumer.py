"""`/ws/telemetry/{subscription_id}` and `/sse/telemetry/{subscription_id}`: the values of one subscription."""

from typing import Any

from dashboard.streams.authentication import Refused, in_thread
from dashboard.streams.close_codes import UNKNOWN_SUBSCRIPTION
from dashboard.streams.data_subscription import DataSubscription
from dashboard.streams.session import RESUME_FROM, InvalidMessage, StreamSession
from dashboard.streams.subscriptions import open_subscription
from metrics.streams.positions import Position
from rest.errors import InvalidField


class TelemetrySession(StreamSession):
    """Sends the values of a subscription; the client only answers heartbeats."""

    data: DataSubscription | None = None

    @property
    def subscription_id(self) -> str:
        return self.path

    async def open(self) -> None:
        resume_from = self._resume_from()
        series = await in_thread(open_subscription, self.subscription_id, self.access.owner)
        if series is None:
            raise Refused(UNKNOWN_SUBSCRIPTION)
        self.data = DataSubscription(self, series)
        await self.data.start(resume_from)

    async def receive(self, message: dict[str, Any]) -> None:
        raise InvalidMessage('type must be "pong": this stream accepts no other messages')

    async def revision_changed(self) -> None:
        if self.data is not None:
            await self.data.apply_rights()

    async def closed(self) -> None:
        if self.data is not None:
            self.data.stop()

    def _resume_from(self) -> Position | None:
        unknown = next((name for name in self.parameters if name != RESUME_FROM), None)
        if unknown is not None:
            raise InvalidMessage(f"{unknown} is not a parameter of this stream; {RESUME_FROM} and ticket are accepted")
        text = self.parameters.get(RESUME_FROM, [""])[-1]
        try:
            return Position.parse(text) if text else None
        except InvalidField as error:
            raise InvalidMessage(str(error)) from None
