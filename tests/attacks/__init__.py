"""What one client can do to the others: attacks on a running service, and what its neighbours and its memory show.

`python -m tests.attacks` runs them all and prints a table. The service runs as a process of its own, and each attacker
as another, on the same cores.
"""
