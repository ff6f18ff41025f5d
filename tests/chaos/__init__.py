"""Not one word lost: streams whose every sample is known, in front of an upstream that breaks at random.

`python -m tests.chaos --help` runs it at any length; the tests in here are short runs of the same.
"""
