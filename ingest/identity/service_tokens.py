"""Tokens by which services call each other, in place of a header that anybody could send.

A service signs one for each request with the secret that it shares with the site: `iss` and `sub` are its name, `aud`
is `telemetry-service`, `jti` is new each time, and it lives a minute at most. What it may do the site's settings say.
"""

import hashlib
import time
import uuid
from datetime import UTC, datetime, timedelta

import jwt
from django.conf import settings
from django.db import connection
from django.utils import timezone

from ingest.identity import jwts
from ingest.identity.credential_owner import Holder
from ingest.identity.models import UsedServiceToken
from ingest.identity.trusted_issuers import Service
from rest.caller import Caller

ALGORITHM = "HS256"
AUDIENCE = "telemetry-service"
LONGEST_LIFE = 60  # seconds
LEEWAY = 5.0  # seconds that the clocks of two services may differ
# A used token is remembered longer than it lives, since the clock that deletes is not the one that judges.
KEPT_FOR = timedelta(hours=1)

_TAKE = "INSERT INTO ingest_usedservicetoken (digest, expires_at) VALUES (%s, %s) ON CONFLICT DO NOTHING"


def make(name: str, life: int = LONGEST_LIFE) -> str:
    """A token of this service, for one request."""
    now = int(time.time())
    claims = {"iss": name, "sub": name, "aud": AUDIENCE, "iat": now, "exp": now + life, "jti": uuid.uuid4().hex}
    return jwt.encode(claims, _services()[name].secret, ALGORITHM)


def holder(token: str, name: str) -> Holder | None:
    """The service whose token this is; None also where it was taken before, by whichever process."""
    service = _services()[name]
    claims = jwts.read(token, service.secret, [ALGORITHM], name, AUDIENCE, LEEWAY)
    if claims is None or not claims.get("jti") or "iat" not in claims:
        return None
    expires = int(claims["exp"])
    if expires - int(claims["iat"]) > LONGEST_LIFE or not _take(name, claims["jti"], expires):
        return None
    return Holder(Caller(f"service:{name}", service.scope, expires=float(expires)), until=0.0)


def forget_expired() -> int:
    """Delete what no token can be any more. Returns how many were deleted."""
    return UsedServiceToken.objects.filter(expires_at__lt=timezone.now() - KEPT_FOR).delete()[0]


def _take(name: str, jti: str, expires: int) -> bool:
    digest = hashlib.sha256(f"{name}\0{jti}".encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, (digest, datetime.fromtimestamp(expires, UTC)))
        return cursor.rowcount == 1


def _services() -> dict[str, Service]:
    return settings.SERVICES
