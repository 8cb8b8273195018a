"""Units of the fields that every agent sends. The snapshot has none; the site and bulk requests add them."""

from __future__ import annotations

UNITS = {
    **dict.fromkeys(("cpu_percent", "memory_percent", "swap_percent", "disk_percent"), "%"),
    **dict.fromkeys(("memory_used_mb", "memory_total_mb"), "MiB"),
    **dict.fromkeys(("disk_used_gb", "disk_total_gb"), "GB"),
    **dict.fromkeys(("disk_read_mb_per_sec", "disk_write_mb_per_sec"), "MB/s"),
    **dict.fromkeys(("network_rx_bytes", "network_tx_bytes", "agent.queue.bytes"), "B"),
    **dict.fromkeys(("network_rx_rate_mbps", "network_tx_rate_mbps"), "Mbit/s"),
    **dict.fromkeys(("uptime_seconds", "agent.queue.oldest_unsent_seconds", "agent.clock.offset_seconds"), "s"),
}
