"""Programs beside the replica: the command line and what it starts."""
