"""Token endpoints of the API: sign in, refresh and revoke.

They need no authentication, since callers sign in here.
"""

from dataclasses import asdict
from typing import Any

from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.authentication import CHALLENGE
from ingest.identity import keys, tokens, users
from ingest.identity.openapi import describe_refresh, describe_revoke, describe_token
from ingest.identity.serializers import RefreshTokenSerializer, SignInSerializer, TokensSerializer

NO_STORE = {"Cache-Control": "no-store"}


class _PublicView(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]

    def get_authenticate_header(self, request: Request) -> str:
        return CHALLENGE  # without authentication classes DRF would respond with 403


class TokenView(_PublicView):
    """Issue tokens for a username and password, or for an API key."""

    @describe_token
    def post(self, request: Request) -> Response:
        body = SignInSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        if body.validated_data["grant_type"] == "password":
            return _token_response(_sign_in_with_password(request, body.validated_data))
        return _token_response(_sign_in_with_key(request, body.validated_data["api_key"]))


def _sign_in_with_password(request: Request, body: dict[str, Any]) -> tokens.Tokens:
    user = users.authenticate_user(request, body["username"], body["password"])
    if user is None:
        raise AuthenticationFailed("the username or the password is wrong")
    request.user = user  # for the audit
    return tokens.issue_for_user(user)


def _sign_in_with_key(request: Request, text: str) -> tokens.Tokens:
    key = keys.find_key(text)
    owner = None if key is None else keys.owner_of_key(key)
    if key is None or owner is None:
        raise AuthenticationFailed("the API key is not valid")
    request.user = owner.caller  # type: ignore[assignment]
    return tokens.issue_for_key(key)


class RefreshView(_PublicView):
    """Issue new tokens for a refresh token. A refresh token that is used twice revokes all tokens of its family."""

    @describe_refresh
    def post(self, request: Request) -> Response:
        body = RefreshTokenSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        issued = tokens.refresh(body.validated_data["refresh_token"])
        if issued is None:
            raise AuthenticationFailed("the refresh token is not valid: sign in again")
        return _token_response(issued)


class RevokeView(_PublicView):
    """Revoke a refresh token and all tokens of its family; an unknown token is no error (RFC 7009)."""

    @describe_revoke
    def post(self, request: Request) -> Response:
        body = RefreshTokenSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        tokens.revoke(body.validated_data["refresh_token"])
        return Response({"success": True, "message": "the tokens of this family are revoked"}, headers=NO_STORE)


def _token_response(issued: tokens.Tokens) -> Response:
    return Response(TokensSerializer(asdict(issued)).data, headers=NO_STORE)
