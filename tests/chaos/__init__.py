"""Streams of known samples, with an upstream that breaks at random: no word may be lost.

`python -m tests.chaos` runs them at any length; the tests in this folder are short runs of the same.
"""
