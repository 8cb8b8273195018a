"""Summary of alerts and rules for statistics and health checks (see metrics.alert_summary)."""

from datetime import timedelta

from django.utils import timezone

from alerts.models import Alert
from metrics.storage.connection import monitoring_connection
from rest.caller import Caller

DAY = timedelta(days=1)
REPORT_TIMEOUT = 60.0  # seconds without a report of the evaluator
MAX_LAG = 5.0  # seconds that a commit may wait for evaluation
MAX_FAILURES = 3  # failures without a report since the first of them, after which evaluation counts as ended
_HEALTH = """
SELECT rules, suspended, extract(epoch FROM now() - at)::float8,
    coalesce((figures ->> 'oldest_seconds')::float8, 0), coalesce((figures ->> 'seq_behind')::bigint, 0),
    failures, since_report, extract(epoch FROM now() - failed_at)::float8,
    (SELECT error FROM alerts_evaluatorfailure ORDER BY at DESC LIMIT 1)
FROM (
    SELECT count(*) AS rules, count(*) FILTER (WHERE suspended <> '') AS suspended
    FROM alerts_rule WHERE enabled
) AS counted LEFT JOIN alerts_evaluatorreport report ON report.id = 1, LATERAL (
    SELECT count(*) AS failures, max(at) AS failed_at,
        count(*) FILTER (WHERE failure.at > coalesce(report.at, '-infinity')) AS since_report
    FROM alerts_evaluatorfailure failure WHERE at > now() - interval '1 hour'
) AS failed
"""


class DatabaseAlertSummary:
    """Alert summary from the database, in one or two statements each."""

    def count_last_day(self, caller: Caller, device_id: str | None) -> int:
        """Return the number of alerts that the caller may see and that triggered in the last 24 hours.

        device_id  count the alerts of this device only
        """
        alerts = Alert.objects.visible_to(caller).without_shadows().filter(triggered_at__gte=timezone.now() - DAY)
        return (alerts if device_id is None else alerts.filter(device__device_id=device_id)).order_by().count()

    def health(self) -> tuple[str, str]:
        """Return the status of rule evaluation (healthy, degraded or unhealthy) and the reason.

        Raises StorageUnavailable.
        """
        with monitoring_connection() as connection:
            [row] = connection.execute(_HEALTH).fetchall()
        rules, suspended, age, lag, commits, failures, failures_since_report, failed, error = row
        if not rules:
            return "healthy", "no alert rules"
        kind = (error or "").partition(":")[0]
        failure = (
            f"failures of evaluation in the last hour: {failures:,}, the last one {failed or 0:,.0f} seconds ago"
            f" ({kind}, see the log of the worker)"
        )
        if failures_since_report >= MAX_FAILURES:
            return "unhealthy", failure
        if age is None:
            subject = "1 alert rule was" if rules == 1 else f"{rules:,} alert rules were"
            return "unhealthy", f"{subject} never evaluated: no worker is running"
        if age > REPORT_TIMEOUT:
            return "unhealthy", f"no evaluation for {age:,.0f} seconds"
        if failures:
            return "degraded", failure
        if lag > MAX_LAG:
            return "degraded", f"evaluation is {lag:,.1f} seconds behind, {commits:,} commits are waiting"
        if suspended:  # without their names, which readers of other device groups must not see
            return "degraded", f"{suspended:,} alert rules are suspended because of errors: see the list of rules"
        return "healthy", f"{rules:,} alert rules are evaluated"
