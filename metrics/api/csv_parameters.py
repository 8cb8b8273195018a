"""Parameters of CSV files, for exports of points and of devices."""

from typing import Any

from rest_framework import serializers

from rest.csv_text import DELIMITERS, CsvDialect
from rest.fields import BooleanField, StrictSerializer

CSV_DEFAULTS: dict[str, Any] = {"bom": False, "delimiter": ",", "decimal": "."}


class CsvParameters(StrictSerializer):
    """How a CSV file is written. The defaults are for programs; Excel requires `bom`."""

    bom = BooleanField(
        default=CSV_DEFAULTS["bom"],
        help_text="Begin a CSV file with a byte order mark, without which Excel does not read it as UTF-8.",
    )
    delimiter = serializers.ChoiceField(
        choices=list(DELIMITERS),
        default=CSV_DEFAULTS["delimiter"],
        help_text="Between the cells of a CSV file. Excel opens files with `;` where the decimal separator is a comma.",
    )
    decimal = serializers.ChoiceField(
        choices=[".", ","],
        default=CSV_DEFAULTS["decimal"],
        help_text="Decimal separator of numbers in a CSV file; a comma requires another delimiter.",
    )

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if attributes["decimal"] == attributes["delimiter"]:
            raise serializers.ValidationError({"decimal": "a comma is accepted with the delimiters ; and tab only"})
        return attributes

    def dialect(self) -> CsvDialect:
        data = self.validated_data
        return CsvDialect(DELIMITERS[data["delimiter"]], data["decimal"], data["bom"])
