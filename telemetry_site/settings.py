"""Settings of the telemetry site. Environment variables set every value that an installation can change."""

import sys
import tomllib
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import unquote, urlsplit

from ingest.identity import trusted_issuers
from telemetry_site.bus.inbound.subjects import parse_subjects
from telemetry_site.bus.webhook_settings import parse_webhooks
from telemetry_site.consul_address import AgentAddress, parse_token
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.env import BASE_DIR, Environment, InvalidSetting, parse_fernet_keys, without_password

env = Environment()
VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]

# --- addresses and folders -------------------------------------------------------------------------------
DATA_DIR = env.folder("TELEMETRY_DATA_DIR", BASE_DIR / "var")
EMBEDDED = DataFolder(DATA_DIR)
HOST = env.host("TELEMETRY_HOST", "127.0.0.1")
PORT = env.integer("TELEMETRY_PORT", 8218, 1, 65535)
DATABASE_URL = env.url("DATABASE_URL", ("postgres", "postgresql"))
OWN_REDIS_URL = env.url("REDIS_URL", ("redis", "rediss", "unix"))
REDIS_URL = OWN_REDIS_URL or EMBEDDED.redis_url
# Seconds until the database cancels a statement of Django; 0 means no limit. `manage.py up` sets it for the web process
# only, since tasks and commands such as migrations can take longer.
STATEMENT_TIMEOUT = env.integer("TELEMETRY_STATEMENT_TIMEOUT", 0, 0, 86_400)
ADMIN_PASSWORD = env.text("TELEMETRY_ADMIN_PASSWORD")
PROVISIONED_API_KEY = env.key("TELEMETRY_API_KEY")
HOST_COLLECTOR = env.switch("TELEMETRY_HOST_COLLECTOR", True)
# Off: points of undefined devices or metrics are rejected; on: the device and metric are created.
CREATE_ON_FIRST_SIGHT = env.switch("TELEMETRY_CREATE_ON_FIRST_SIGHT", True)
# Off: /telemetry/public, the counts of devices by state, requires a key.
PUBLIC_STATUS = env.switch("TELEMETRY_PUBLIC_STATUS", True)
# Number of shards; fixed after the first point is stored. More than one is useful with several workers or Citus.
SHARDS = env.integer("TELEMETRY_SHARDS", 1, 1, 64)

# Requests per second and burst: of an API key or service, and of an IP address without authentication.
RATE_PER_KEY = env.rate("TELEMETRY_RATE_PER_KEY", None)
RATE_PER_ADDRESS = env.rate("TELEMETRY_RATE_PER_ADDRESS", (100, 2000))
# Seconds in which a client must send a whole request, and open connections of one IP address; 0 means no limit.
REQUEST_TIMEOUT = env.integer("TELEMETRY_REQUEST_TIMEOUT", 30, 1, 3600)
CONNECTIONS_PER_ADDRESS = env.integer("TELEMETRY_CONNECTIONS_PER_ADDRESS", 500, 0, 1_000_000)
# Off: the worker leaves rule evaluation and notification delivery to `manage.py run_alerts`.
ALERTS_IN_WORKER = env.switch("TELEMETRY_ALERTS_IN_WORKER", True)
# Days from the resolution of an alert to its deletion.
ALERT_RETENTION_DAYS = env.integer("TELEMETRY_ALERT_RETENTION_DAYS", 365, 1, 3650)
CORS_ORIGINS = env.origins("TELEMETRY_CORS_ORIGINS")
# The agent with which web processes register; None: no registration.
CONSUL_AGENT = env.parsed("CONSUL_HTTP_ADDR", AgentAddress.parse, "")
CONSUL_TOKEN = env.parsed("CONSUL_HTTP_TOKEN", parse_token, "")

# --- Django -----------------------------------------------------------------------------------------
DEBUG = env.switch("TELEMETRY_DEBUG", False)
SECRET_KEY = env.text("SECRET_KEY") or EMBEDDED.secret_key()
ALLOWED_HOSTS = env.words("TELEMETRY_ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]", HOST]
if HOST in {"0.0.0.0", "::"} and not env.words("TELEMETRY_ALLOWED_HOSTS"):  # noqa: S104 - configured by the operator
    ALLOWED_HOSTS = ["*"]
CSRF_TRUSTED_ORIGINS = env.words("TELEMETRY_TRUSTED_ORIGINS")
ROOT_URLCONF = "telemetry_site.urls"
ASGI_APPLICATION = "telemetry_site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "telemetry_site",
    "telemetry_site.bus",
    "dashboard",
    "alerts",
    "ingest",
    "metrics",
    "telemetry_site.apps.TelemetryAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
MIDDLEWARE = [
    "telemetry_site.middleware.server_timing.ServerTiming",
    "django.middleware.security.SecurityMiddleware",
    "telemetry_site.middleware.csp.ContentSecurityPolicy",
    "telemetry_site.middleware.status_host.select_status_page",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "telemetry_site.middleware.page_time_zone.PageTimeZone",
    "metrics.audit.actor.remember_request",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard.navigation.page_context",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["telemetry_site.login.RateLimitedBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"

# --- authentication --------------------------------------------------------------------------------
ACCESS_TOKEN_SECONDS = env.integer("TELEMETRY_ACCESS_TOKEN_SECONDS", 900, 60, 86_400)
REFRESH_TOKEN_DAYS = env.integer("TELEMETRY_REFRESH_TOKEN_DAYS", 14, 1, 365)
JWT_ISSUERS = env.parsed("TELEMETRY_JWT_ISSUERS", trusted_issuers.parse_issuers, "[]")
SERVICES = env.parsed("TELEMETRY_SERVICE_SECRETS", trusted_issuers.parse_services, "{}")

# --- security ---------------------------------------------------------------------------------------
HTTPS = env.switch("TELEMETRY_HTTPS", False)
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds()) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
BEHIND_PROXY = env.switch("TELEMETRY_BEHIND_PROXY", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
# Browsers send cookies to every port of a host, so installations on one host need different names. The processes of one
# installation have the same secret key.
COOKIE_NAME = env.word("TELEMETRY_COOKIE_NAME", f"telemetry_{sha256(SECRET_KEY.encode()).hexdigest()[:8]}")
SESSION_COOKIE_NAME = f"{COOKIE_NAME}_session"
CSRF_COOKIE_NAME = f"{COOKIE_NAME}_csrf"
X_FRAME_OPTIONS = "DENY"


# --- PostgreSQL and Redis ---------------------------------------------------------------------------
def database(url: str) -> dict[str, Any]:
    """Return Django's DATABASES entry for a PostgreSQL URL, or for the embedded server if it is empty."""
    if not url:
        parameters = EMBEDDED.database
    else:
        from psycopg.conninfo import conninfo_to_dict  # imported here: the supervisor does not load libpq

        try:
            parameters = {k: str(v) for k, v in conninfo_to_dict(url).items()}
        except Exception as error:
            accepted = f"postgresql://user:password@host:5432/name is accepted ({' '.join(str(error).split())})"
            raise InvalidSetting("DATABASE_URL", without_password(url), accepted) from None
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    entry: dict[str, Any] = {django: parameters.pop(libpq) for libpq, django in names.items() if libpq in parameters}
    return entry | {
        "ENGINE": "telemetry_site.database",
        # Under ASGI each synchronous request runs in a new thread, so connections come from a pool.
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,  # replaces connections that a restart of the database has closed
        "OPTIONS": {"connect_timeout": 5, **parameters, "pool": {"min_size": 0, "max_size": 8, "timeout": 5}},
    }


DATABASES = {"default": database(DATABASE_URL)}

CHANNEL_LAYERS = {
    "default": {
        # The other backend loses idle consumers after 5 s with redis-py 8.
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "telemetry"},
    }
}

# --- Celery -----------------------------------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, "socket_timeout": 5, "socket_connect_timeout": 5}
CELERY_BEAT_SCHEDULER = "telemetry_site.beat:LeaderScheduler"
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    # A task that no worker started before `expires` is dropped, since the next one does the same work.
    "merge new blocks": {"task": "metrics.tasks.merge_young_blocks", "schedule": 1.0, "options": {"expires": 5}},
    "heartbeat": {"task": "metrics.tasks.heartbeat", "schedule": 10.0, "options": {"expires": 10}},
    "merge blocks": {"task": "metrics.tasks.merge_blocks", "schedule": 30.0, "options": {"expires": 30}},
    "compress the journal": {"task": "metrics.tasks.pack_journal", "schedule": 60.0, "options": {"expires": 60}},
    "delete expired points": {
        "task": "metrics.tasks.drop_expired",
        "schedule": 60.0,  # an expired day is deleted within a minute
        "options": {"expires": 60},
    },
    "delete the points of deleted devices": {
        "task": "metrics.tasks.remove_deleted",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "compute the noise scores of rules": {
        "task": "alerts.tasks.score_noise",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "delete expired alerts": {"task": "alerts.tasks.drop_expired", "schedule": 600.0, "options": {"expires": 600}},
    "evaluate late data": {"task": "alerts.tasks.judge_late", "schedule": 5.0, "options": {"expires": 5}},
    "delete expired rejected points": {
        "task": "ingest.tasks.tidy_rejected",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "delete old collections": {"task": "ingest.tasks.trim_collections", "schedule": 60.0, "options": {"expires": 60}},
    "record silent devices": {
        "task": "metrics.tasks.record_device_states",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "delete read events": {"task": "metrics.tasks.delete_read_events", "schedule": 60.0, "options": {"expires": 60}},
    "run export jobs": {"task": "metrics.tasks.make_exports", "schedule": 2.0, "options": {"expires": 5}},
    "delete expired exports": {
        "task": "metrics.tasks.drop_expired_exports",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "delete expired idempotency records": {
        "task": "metrics.tasks.drop_idempotent_answers",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "delete expired tokens": {
        "task": "ingest.tasks.forget_expired_tokens",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "delete expired subscriptions": {
        "task": "dashboard.tasks.delete_expired_subscriptions",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "refresh status pages": {
        "task": "dashboard.tasks.refresh_status_pages",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "send messages of status pages": {
        "task": "dashboard.tasks.send_status_messages",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "delete old messages of status pages": {
        "task": "dashboard.tasks.delete_old_status_messages",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "detect patterns": {"task": "alerts.tasks.find_patterns", "schedule": 600.0, "options": {"expires": 600}},
}
STATUS_DIR = env.folder("TELEMETRY_STATUS_DIR", DATA_DIR / "status")  # files of the status pages, for a proxy
EXPORTS_DIR = env.folder("TELEMETRY_EXPORTS_DIR", DATA_DIR / "exports")  # several machines need a shared folder

# --- event bus --------------------------------------------------------------------------------------
# Comma-separated servers of one cluster. Empty: no events are sent to NATS and none are received.
NATS_URL = env.addresses("NATS_URL", ("nats", "tls", "ws", "wss"))
NATS_PREFIX = env.word("TELEMETRY_NATS_PREFIX", "telemetry")  # of subjects; installations that share a NATS differ
# Subjects with the events of other services, such as services.device.deleted.
NATS_INBOUND = env.parsed("TELEMETRY_BUS_INBOUND", parse_subjects, "services.>")
NATS_MONITORING_URL = env.url("TELEMETRY_NATS_MONITORING_URL", ("http", "https"))
EVENT_WEBHOOKS = env.parsed("TELEMETRY_EVENT_WEBHOOKS", parse_webhooks, "[]")
EVENT_REDIS_STREAM = env.text("TELEMETRY_EVENT_REDIS_STREAM")

# --- notifications ----------------------------------------------------------------------------------
SITE_URL = env.url("TELEMETRY_SITE_URL", ("https", "http")).rstrip("/")  # prefix of links in notifications
SITE_HOST = urlsplit(SITE_URL).hostname or ""
# Private networks that notification channels may connect to, such as 10.1.2.0/24.
ALLOW_PRIVATE_WEBHOOKS = env.networks("TELEMETRY_ALLOW_PRIVATE_WEBHOOKS")
ALERT_ACTIONS = {
    "log_alert": "alerts.notifications.builtin_actions.log_alert",
    "send_notification": "alerts.notifications.builtin_actions.send_notification",
} | env.paths("TELEMETRY_ALERT_ACTIONS")
_mail = urlsplit(env.url("EMAIL_URL", ("smtp", "smtp+tls", "smtps")))  # plain, STARTTLS, TLS
EMAIL_HOST = _mail.hostname or ""  # empty: email channels report that no mail server is configured
EMAIL_PORT = _mail.port or {"smtp+tls": 587, "smtps": 465}.get(_mail.scheme, 25)
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_mail.username or ""), unquote(_mail.password or "")
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.scheme == "smtp+tls", _mail.scheme == "smtps"
EMAIL_TIMEOUT = 5  # seconds per SMTP step
DEFAULT_FROM_EMAIL = env.text("TELEMETRY_EMAIL_FROM", "telemetry@localhost")

# --- collectors -------------------------------------------------------------------------------------
# Private networks that collectors may connect to, such as 10.1.2.0/24.
ALLOW_PRIVATE_COLLECTORS = env.networks("TELEMETRY_ALLOW_PRIVATE_COLLECTORS")
# Keys that encrypt the secrets of collectors: the first encrypts, all decrypt. Empty: a key of the data folder.
SECRETS_KEYS = env.parsed("TELEMETRY_SECRETS_KEYS", parse_fernet_keys, "")
# Off: the worker leaves collectors to other workers.
COLLECTORS_IN_WORKER = env.switch("TELEMETRY_COLLECTORS_IN_WORKER", True)

# --- REST -------------------------------------------------------------------------------------------
IDEMPOTENT_ANSWER_MODEL = "metrics.IdempotentAnswer"  # answers to requests with an Idempotency-Key

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "ingest.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest.permissions.MayRead"],
    "DEFAULT_THROTTLE_CLASSES": ["rest.throttle.PerCaller"],
    "DEFAULT_RENDERER_CLASSES": ["rest.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "rest.renderers.AsItComes",
    "DEFAULT_PARSER_CLASSES": ["rest.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "telemetry_site.api_errors.handle",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "DEFAULT_SCHEMA_CLASS": "rest.openapi.Operation",
}
PUBLIC_SCHEMA = env.switch("TELEMETRY_PUBLIC_SCHEMA", True)
SPECTACULAR_SETTINGS = {
    "TITLE": "Telemetry",
    "DESCRIPTION": "Devices send measurements; this site stores them durably, shows them live and answers"
    " queries.\n\nTimes are RFC 3339 in UTC. Every error has the same body (RFC 9457), whose `detail` says what is"
    " wrong and what is accepted. All paths under `/api/v1/telemetry/` are also available under `/api/v1/`.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": "/", "description": "This site."}],
    "SCHEMA_PATH_PREFIX": "/api/v1/telemetry",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,  # docstrings are written for developers
    "PATH_CONVERTER_OVERRIDES": {"id": {"type": "string"}, "name": {"type": "string"}},
    "PREPROCESSING_HOOKS": ["telemetry_site.api_docs.exclude_short_paths"],
    "POSTPROCESSING_HOOKS": ["rest.openapi.complete"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "/favicon.ico",
    "REDOC_DIST": "SIDECAR",
}

# --- static files, time, language -------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [("uplot", BASE_DIR / "node_modules" / "uplot" / "dist")]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = ["telemetry_site.formats"]

# --- log --------------------------------------------------------------------------------------------
LOG_FORMAT = env.choice("TELEMETRY_LOG_FORMAT", "line" if sys.stderr.isatty() else "json", ("json", "line"))
LOG_LEVEL = env.choice("TELEMETRY_LOG_LEVEL", "info", ("debug", "info", "warning", "error")).upper()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "telemetry_site.log_format.JSONFormatter"},
        "line": {"()": "telemetry_site.log_format.LineFormatter"},
    },
    "filters": {
        # Django logs every 5xx response; keep only those with an exception, since the request log has the others.
        "failures": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: bool(record.exc_info),
        },
        "secrets": {
            "()": "telemetry_site.log_format.SecretFilter",
            "secrets": [
                SECRET_KEY,
                ADMIN_PASSWORD,
                PROVISIONED_API_KEY,
                *SECRETS_KEYS,
                DATABASES["default"].get("PASSWORD", ""),
                EMAIL_HOST_PASSWORD,
                *(unquote(urlsplit(server).password or "") for server in NATS_URL.split(",")),
                *(webhook.secret for webhook in EVENT_WEBHOOKS),
            ],
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["secrets"]}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "asyncio": {"level": "WARNING"},
        "celery": {"level": "WARNING"},  # else one line per scheduled task
        "django.db.backends": {"level": "INFO"},  # never log statements with their parameters
        # Without Django's own handlers: a failed request is logged once, with its request ID.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.request": {"level": "ERROR", "filters": ["failures"]},
        "psycopg.pool": {"level": "ERROR"},
        "uvicorn": {"handlers": [], "level": "WARNING", "propagate": True},
        "uvicorn.error": {"handlers": [], "level": "WARNING", "propagate": True},
    },
}
