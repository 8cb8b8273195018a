"""Signing in as a user: an access token for a password, renewed with a refresh token that is valid once."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from telemetry_client.errors import ClientError, InvalidInput, NotTheSite, Refused
from telemetry_client.profiles import Profile, ProfileFile
from telemetry_client.site import Site

try:
    import fcntl
except ImportError:  # Windows: two commands must not renew the tokens of a profile at the same time there
    fcntl = None  # type: ignore[assignment]

MARGIN = 30.0  # seconds before its end at which a token is renewed


def sign_in(site: Site, user: str, password: str) -> Profile:
    """Return the profile of a user. Raises ClientError."""
    body = {"grant_type": "password", "username": user, "password": password}
    return _with_tokens(Profile(site.url, user=user), site.post("auth/token", body))


def sign_out(profile: Profile, timeout: float) -> None:
    """Revoke the tokens of a profile, as far as the site can be reached."""
    with suppress(ClientError):
        Site(profile.url, timeout=timeout).post("auth/revoke", {"refresh_token": profile.refresh_token})


class UserTokens:
    """The access token of a stored profile. Processes share the file, since a refresh token is valid once."""

    def __init__(self, profile: Profile, timeout: float, file: ProfileFile | None = None) -> None:
        self._profile, self._timeout, self._file = profile, timeout, file or ProfileFile()

    def __call__(self) -> str:
        """Return a token that is valid for a while. Raises ClientError."""
        if self._profile.expires_at - time.time() < MARGIN:
            with self._locked():
                self._profile = self._file.get(self._profile.name)
                if self._profile.expires_at - time.time() < MARGIN:
                    self._renew()
        return self._profile.access_token

    def _renew(self) -> None:
        site = Site(self._profile.url, timeout=self._timeout)
        try:
            answer = site.post("auth/refresh", {"refresh_token": self._profile.refresh_token})
        except Refused as error:
            if error.status != 401:
                raise
            raise InvalidInput(
                f"the sign-in of {self._profile.user} has ended: run telemetry login {site.url}"
                f" --user {self._profile.user}"
            ) from None
        self._profile = _with_tokens(self._profile, answer)
        self._file.update(self._profile)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if fcntl is None:
            yield
            return
        path = self._file.path.with_name("profiles.lock")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _with_tokens(profile: Profile, answer: Any) -> Profile:
    try:
        return replace(
            profile,
            access_token=str(answer["access_token"]),
            refresh_token=str(answer["refresh_token"]),
            expires_at=time.time() + float(answer["expires_in"]),
        )
    except (TypeError, KeyError, ValueError):
        raise NotTheSite(f"{profile.url} does not answer like a telemetry site: tokens are missing") from None
