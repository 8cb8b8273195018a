"""Targets of the event bus, each with its own relay and cursor."""
