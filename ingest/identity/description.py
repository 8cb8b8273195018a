"""The doors of tokens and keys, for the description of the API."""

from typing import Any

from ingest.identity.shapes import (
    ApiKeys,
    KeyParameters,
    KeySerializer,
    NewKeySerializer,
    Refresh,
    Rotation,
    SignIn,
    TokenAnswer,
)
from metrics.api import examples
from metrics.api.answers import Done
from rest.openapi import Tag, operation

_OPEN: dict[str, Any] = {"tag": Tag.ACCESS, "public": True}  # whoever comes has nothing yet to be known by
_TOKENS = {
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2lnbmVk",
    "token_type": "bearer",
    "expires_in": 900,
    "refresh_token": "tr_Zmlyc3Q.c2Vjb25k",
    "refresh_expires_in": 1_209_600,
}
_GIVEN = {"name": "gateway 1", "scope": "ingest", "group": "site a"}
_KEY: dict[str, Any] = {
    "id": 7,
    "prefix": "tk_Zm9vY",
    "device_id": None,
    "valid": True,
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "rotated_from": None,
    **_GIVEN,
}
_TEXT = "tk_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"

describe_token = operation(
    "create_token",
    "Sign in for tokens",
    description="With `grant_type` `password` a person's name and password, with `api_key` a key is exchanged. The"
    " tokens may do what the person or the key may, and no more once that changes.",
    request=SignIn,
    answer=TokenAnswer,
    errors=(401, 429, 503),
    asked={"grant_type": "password", "username": "ana", "password": "correct horse battery staple"},
    answered=_TOKENS,
    **_OPEN,
)
describe_refresh = operation(
    "refresh_token",
    "New tokens for a refresh token",
    description="The refresh token is spent by that. One that comes a second time ends all tokens of its family.",
    request=Refresh,
    answer=TokenAnswer,
    errors=(401, 429, 503),
    asked={"refresh_token": _TOKENS["refresh_token"]},
    answered=_TOKENS,
    **_OPEN,
)
describe_revoke = operation(
    "revoke_token",
    "Sign out",
    description="Ends a refresh token and all tokens of its family within a second. One that is not known is no error.",
    request=Refresh,
    answer=Done,
    errors=(429, 503),
    asked={"refresh_token": _TOKENS["refresh_token"]},
    answered={"success": True, "message": "the tokens of this family are good no more"},
    **_OPEN,
)
describe_list = operation(
    "list_keys",
    "Which API keys there are",
    tag=Tag.ACCESS,
    description="A page of keys by name, without their texts. For admins, as everything about keys.",
    query=KeyParameters,
    answer=ApiKeys,
    asked={"scope": "ingest", "valid": True},
    answered={"keys": [_KEY], **examples.PAGE},
)
describe_create = operation(
    "create_key",
    "Make an API key",
    tag=Tag.ACCESS,
    description="The text of the key is in this answer and nowhere else. It is for all devices, for one, or for those"
    " of a group.",
    request=KeySerializer,
    answer=NewKeySerializer,
    status=201,
    asked=_GIVEN,
    answered=_KEY | {"key": _TEXT},
    tagged=True,
)
describe_get = operation(
    "get_key",
    "An API key",
    tag=Tag.ACCESS,
    description="What it is for, how long, and when it was last used, give or take a minute.",
    answer=KeySerializer,
    errors=(404,),
    answered=_KEY,
    tagged=True,
)
describe_update = operation(
    "update_key",
    "Rename an API key, or give it an end",
    tag=Tag.ACCESS,
    description="What it is for cannot be changed: a key in the field keeps to what it was given for.",
    request=KeySerializer(partial=True),
    answer=KeySerializer,
    errors=(404,),
    asked={"name": "gateway 2"},
    answered=_KEY | {"name": "gateway 2"},
    tagged=True,
)
describe_delete = operation(
    "delete_key",
    "Delete an API key",
    tag=Tag.ACCESS,
    description="It is good no more and forgotten; a revoked one is remembered.",
    answer=Done,
    errors=(404,),
    answered={"success": True, "message": "the key gateway 1 (tk_Zm9vY…) is deleted"},
    tagged=True,
)
describe_rotate = operation(
    "rotate_key",
    "Replace an API key",
    tag=Tag.ACCESS,
    description="A new key for the same; the old one is good for `overlap_seconds` more, so that whoever has it can"
    " change over.",
    request=Rotation,
    answer=NewKeySerializer,
    status=201,
    errors=(404, 409),
    asked={"overlap_seconds": 86_400},
    answered=_KEY | {"id": 8, "rotated_from": 7, "key": _TEXT},
    tagged=True,
)
describe_revoke_key = operation(
    "revoke_key",
    "End an API key",
    tag=Tag.ACCESS,
    description="At once and for good; it stays in the list, for those who ask whose it was.",
    answer=KeySerializer,
    errors=(404,),
    answered=_KEY | {"valid": False, "revoked_at": "2025-12-19T10:00:00Z"},
    tagged=True,
)
