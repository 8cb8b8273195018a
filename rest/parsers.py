"""JSON bodies by msgspec: without NaN, deep nesting or unlimited size."""

from typing import Any

import msgspec
from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

from rest.json_names import DuplicateName, check_unique_names

BODY_LIMIT = 4 * 1024 * 1024  # bytes; the ingestion endpoints have their own limit


class TooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"the body is larger than {BODY_LIMIT} bytes"


class JSONParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        body = stream.read(BODY_LIMIT + 1)
        if len(body) > BODY_LIMIT:
            raise TooLarge
        try:
            document = msgspec.json.decode(body)
            check_unique_names(body, document)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, DuplicateName) as error:
            raise ParseError(f"the body is not JSON: {error}") from None
        return document
