"""Client of the telemetry site. Knows no Django."""
