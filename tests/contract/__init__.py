"""The contract, tested from outside: real replicas, real publishers and a real Redis, each a process of its own."""
