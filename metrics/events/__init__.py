"""Events of changes, written with the change and read by live streams and the event bus."""
