"""Streams in which every sample is known, in front of an upstream that breaks at random: no word may be lost.

`python -m tests.chaos --help` runs it at any length; the tests in here are short runs of the same.
"""
