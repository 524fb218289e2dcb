"""All that speaks to Redis: one feed for each kind of Redis URL, and what they share."""
