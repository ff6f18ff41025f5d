"""Run every script, one after the other."""

from __future__ import annotations

from tests.bench import cost


def main() -> None:
    cost.main()


if __name__ == "__main__":
    main()
