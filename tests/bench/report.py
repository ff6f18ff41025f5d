"""The benchmarks' results in `results/`: a page to read, and the figures that it was made of."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent / "results"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median as text, with the least and the most in brackets."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def keep(name: str, question: str, answer: str, figures: object, details: str = "") -> str:
    """Print a result, write it to `results/NAME.md` and its figures to `.json`, and return the answer for the docs."""
    text = "\n\n".join(part.strip() for part in (question, answer, details) if part) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    return answer
