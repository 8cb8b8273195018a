"""Live streams: each process reads each commit once and passes it to the feeds that match."""
