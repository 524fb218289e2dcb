"""HTTP: hosts, handshakes, pages and posted events."""
