"""OpenAPI descriptions of the token endpoints."""

from typing import Any

from ingest.identity.serializers import RefreshTokenSerializer, SignInSerializer, TokensSerializer
from rest.openapi import Tag, operation
from rest.responses import SuccessSerializer

_PUBLIC: dict[str, Any] = {"tag": Tag.ACCESS, "public": True}  # the request has no credential yet
EXAMPLE_TOKENS = {
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2lnbmVk",
    "token_type": "bearer",
    "expires_in": 900,
    "refresh_token": "tr_Zmlyc3Q.c2Vjb25k",
    "refresh_expires_in": 1_209_600,
}

describe_token = operation(
    "create_token",
    "Create tokens",
    description="Exchanges a user name and password (`grant_type` `password`) or an API key (`api_key`) for an access"
    " token and a refresh token. The tokens have the current permissions of the person or key.",
    request=SignInSerializer,
    response=TokensSerializer,
    errors=(401, 422, 429, 503),
    request_example={"grant_type": "password", "username": "ana", "password": "correct horse battery staple"},
    response_example=EXAMPLE_TOKENS,
    **_PUBLIC,
)
describe_refresh = operation(
    "refresh_token",
    "Refresh tokens",
    description="A refresh token is valid once. Using it again revokes all tokens of its family.",
    request=RefreshTokenSerializer,
    response=TokensSerializer,
    errors=(401, 422, 429, 503),
    request_example={"refresh_token": EXAMPLE_TOKENS["refresh_token"]},
    response_example=EXAMPLE_TOKENS,
    **_PUBLIC,
)
describe_revoke = operation(
    "revoke_token",
    "Revoke tokens",
    description="Revokes a refresh token and all tokens of its family within a second. An unknown token is not an"
    " error.",
    request=RefreshTokenSerializer,
    response=SuccessSerializer,
    errors=(422, 429, 503),
    request_example={"refresh_token": EXAMPLE_TOKENS["refresh_token"]},
    response_example={"success": True, "message": "the tokens of this family are revoked"},
    **_PUBLIC,
)
