"""Units of time as the storage engine counts it: integers of microseconds since 1970, UTC."""

SECOND = 1_000_000
DAY = 86_400 * SECOND
