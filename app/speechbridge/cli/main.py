"""The entry point of the command line. It imports nothing until Ctrl-C is handled."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it without a traceback, even while it is still being loaded."""
    try:
        from speechbridge.cli import commands  # noqa: PLC0415 # takes a tenth of a second

        commands.run()
    except KeyboardInterrupt:
        sys.exit(130)  # as in a shell: 128 and the number of the signal
