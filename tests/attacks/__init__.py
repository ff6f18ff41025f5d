"""Attacks of one client on a running service, and their effect on other clients and on the service's memory.

`python -m tests.attacks` runs all attacks and prints a table. The service and each attacker are processes of their own,
on the same cores.
"""
