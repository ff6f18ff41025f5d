"""`python -m speechbridge.testing --script FILE`: the scripted recognizer as a process of its own."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from speechbridge.recognizer.process import parser, run
from speechbridge.testing.script import Scripted


def _script(path: str) -> Scripted:
    try:
        return Scripted.from_json(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> None:
    options = parser(
        "python -m speechbridge.testing",
        "A recognizer for tests, with Rev.ai's streaming protocol. Its answers are in a script (JSON).",
    )
    options.add_argument("--script", type=_script, required=True, metavar="FILE", help="file with the answers")
    parsed = options.parse_args()
    run(nullcontext(parsed.script), parsed)


if __name__ == "__main__":
    main()
