"""Text cells of CSV files. Pure."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters that a spreadsheet takes for a formula


def text_cell(text: str | None) -> bytes:
    """Encode a text as a CSV cell that no spreadsheet evaluates as a formula."""
    if not text:
        return b""
    if text.startswith(FORMULA):
        text = f"'{text}"
    if any(sign in text for sign in ',"\r\n'):
        text = '"{}"'.format(text.replace('"', '""'))
    return text.encode()
