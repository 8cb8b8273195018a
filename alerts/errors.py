"""What people set up and cannot be: silences, channels and routes, refused with the fields that are wrong."""


class BadFields(ValueError):
    """`errors` are (field, what is wrong and what is accepted)."""

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{field}: {detail}" for field, detail in errors))
