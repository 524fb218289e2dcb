"""The Autobahn test suite against the gateway's frames: `make autobahn`."""
