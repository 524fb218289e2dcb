"""Projects: the last events of each, and who is owed which of them."""
