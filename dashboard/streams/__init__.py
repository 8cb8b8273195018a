"""Live streams of points and events over WebSockets and server-sent events."""
