"""Simulator of a fleet of devices: the same seed gives the same points, labels and order of arrival."""
