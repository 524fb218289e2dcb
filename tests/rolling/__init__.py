"""Replicas rolled, killed, added and taken away behind the load balancers that deploy/ configures, under clients and
jobs. The configurations are the shipped files themselves."""
