"""Who may watch: tokens, the keys that check them, and revocations."""
