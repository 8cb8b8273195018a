"""The longest name of anything that people or programs name."""

NAME_LENGTH = 200
