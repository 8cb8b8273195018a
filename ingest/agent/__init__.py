"""The edge agent: measures a device and delivers its snapshots to the site. Python 3.9 and its standard library."""

VERSION = "1.1.0"
