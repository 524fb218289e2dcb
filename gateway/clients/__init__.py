"""Clients: one connection, its conversation and its end."""
