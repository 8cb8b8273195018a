"""Signing in over the API: a password or an API key for tokens, a refresh token for newer ones, and their end.

These are for those who have no token yet, so nobody is asked who they are before.
"""

from dataclasses import asdict
from typing import Any

from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.authentication import CHALLENGE
from ingest.identity import keys, people, tokens
from ingest.identity.description import describe_refresh, describe_revoke, describe_token
from ingest.identity.shapes import Refresh, SignIn, TokenAnswer

NO_STORE = {"Cache-Control": "no-store"}


class _OpenView(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]

    def get_authenticate_header(self, request: Request) -> str:
        return CHALLENGE  # without authentication classes a refusal would be 403


class TokenView(_OpenView):
    """Tokens for a person's name and password, or in exchange for an API key."""

    @describe_token
    def post(self, request: Request) -> Response:
        given = SignIn(data=request.data)
        given.is_valid(raise_exception=True)
        if given.validated_data["grant_type"] == "password":
            return _answer(_by_password(request, given.validated_data))
        return _answer(_by_key(request, given.validated_data["api_key"]))


def _by_password(request: Request, given: dict[str, Any]) -> tokens.Tokens:
    user = people.with_password(request, given["username"], given["password"])
    if user is None:
        raise AuthenticationFailed("the username or the password is wrong")
    request.user = user  # by whom what follows is done, for the audit
    return tokens.for_person(user)


def _by_key(request: Request, text: str) -> tokens.Tokens:
    key = keys.named_by(text)
    found = None if key is None else keys.holder_of(key)
    if key is None or found is None:
        raise AuthenticationFailed("the API key is not valid")
    request.user = found.caller  # type: ignore[assignment]
    return tokens.for_key(key)


class RefreshView(_OpenView):
    """New tokens for a refresh token, which is spent. One that is spent already ends all tokens of its family."""

    @describe_refresh
    def post(self, request: Request) -> Response:
        given = Refresh(data=request.data)
        given.is_valid(raise_exception=True)
        found = tokens.refresh(given.validated_data["refresh_token"])
        if found is None:
            raise AuthenticationFailed("the refresh token is not valid: sign in again")
        return _answer(found)


class RevokeView(_OpenView):
    """The end of a refresh token and of all tokens of its family; one that is not known is no error (RFC 7009)."""

    @describe_revoke
    def post(self, request: Request) -> Response:
        given = Refresh(data=request.data)
        given.is_valid(raise_exception=True)
        tokens.revoke(given.validated_data["refresh_token"])
        return Response({"success": True, "message": "the tokens of this family are good no more"}, headers=NO_STORE)


def _answer(found: tokens.Tokens) -> Response:
    return Response(TokenAnswer(asdict(found)).data, headers=NO_STORE)
