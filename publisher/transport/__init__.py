"""From a checked event to Redis: where the server is, what is sent, when it is tried again."""
