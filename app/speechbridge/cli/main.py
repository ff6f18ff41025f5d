"""Where the command line begins. It imports nothing before it can take a Ctrl-C."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it without a traceback, even while it is still being loaded."""
    try:
        from speechbridge.cli import commands  # noqa: PLC0415 # takes a tenth of a second

        commands.run()
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell has it: 128 and the signal's number
