"""What names may be."""

NAME_LENGTH = 200
