"""What statistics and health checks are told of alerts (metrics.alert_summary)."""

from datetime import timedelta

from django.utils import timezone

from alerts.models import Alert
from metrics.storage.connection import monitoring_connection
from rest.caller import Caller

DAY = timedelta(days=1)
SILENT = 60.0  # seconds without a report: nobody evaluates
BEHIND = 5.0  # seconds that a commit may wait to be judged
_HEALTH = """
SELECT rules, suspended, example, extract(epoch FROM now() - at)::float8,
    coalesce((figures ->> 'oldest_seconds')::float8, 0), coalesce((figures ->> 'seq_behind')::bigint, 0)
FROM (
    SELECT count(*) AS rules, count(*) FILTER (WHERE suspended <> '') AS suspended,
        min(name) FILTER (WHERE suspended <> '') AS example
    FROM alerts_rule WHERE enabled
) AS counted LEFT JOIN alerts_evaluatorreport ON alerts_evaluatorreport.id = 1
"""


class RulesAndAlerts:
    """Answers of the database, each of one statement or two."""

    def last_day(self, caller: Caller, device_id: str | None) -> int:
        """Alerts that were triggered in the last 24 hours, of what somebody sees; of one device."""
        found = Alert.objects.visible_to(caller).real().filter(triggered_at__gte=timezone.now() - DAY)
        return (found if device_id is None else found.filter(device__device_id=device_id)).order_by().count()

    def health(self) -> tuple[str, str]:
        """(healthy, degraded or unhealthy; why) of the evaluation of rules. Raises StorageUnavailable."""
        with monitoring_connection() as connection:
            [told] = connection.execute(_HEALTH).fetchall()
        rules, suspended, example, age, behind, commits = told
        if not rules:
            return "healthy", "there are no alert rules to evaluate"
        if age is None:
            return "unhealthy", f"{rules:,} alert rules have never been evaluated: no worker is running"
        if age > SILENT:
            return "unhealthy", f"no alert rules were evaluated for {age:,.0f} seconds"
        if behind > BEHIND:
            return "degraded", f"evaluation is {behind:,.1f} seconds behind, {commits:,} commits wait for it"
        if suspended:
            return "degraded", f"{suspended:,} alert rules are suspended for an error, {example!r:.80} among them"
        return "healthy", f"{rules:,} alert rules are evaluated"
