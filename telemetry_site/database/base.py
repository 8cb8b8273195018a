"""Django's PostgreSQL backend with a limit on the time of a statement."""

from typing import Any

from django.conf import settings
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Sets TELEMETRY_STATEMENT_TIMEOUT on each new connection.

    By a statement, since PgBouncer rejects or ignores the `options` of a new connection.
    """

    def _configure_connection(self, connection: Any) -> bool:
        needs_commit: bool = super()._configure_connection(connection)  # type: ignore[misc]  # not in the stubs
        if settings.STATEMENT_TIMEOUT:
            connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{settings.STATEMENT_TIMEOUT}s",))
            needs_commit = True
        return needs_commit
