"""Base of the resources of alerting."""

from rest_framework import status

from rest.resources import Resource


class AlertingResource(Resource):
    """An invalid body is answered with 422, from the serializer or from the checks of the domain (InvalidFields)."""

    invalid_status = status.HTTP_422_UNPROCESSABLE_ENTITY
