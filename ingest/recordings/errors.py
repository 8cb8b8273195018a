"""The error of a recording that cannot be loaded."""


class UnreadableRecording(Exception):
    """The file cannot be read, or not to its end. The message is one line."""
