"""Faults without end: replicas, a Redis and 200 clients, of which none may end with another picture than Redis'.

`python -m tests.chaos --help`; docs/chaos.md tells what is broken, what is held, and what a run showed.
"""
