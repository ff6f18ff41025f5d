"""Write the tables of docs/ that say what is in the code: `python -m tests.reference`. A test compares them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from speechbridge.server import create_app
from speechbridge.server.metrics import text_of
from speechbridge.server.workers.answers import of_workers
from speechbridge.settings import Settings, describe
from tests.helpers.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- written by python -m tests.reference -->", "<!-- end -->"


def settings() -> str:
    rows = [(f"`{name}`", f"`{default}`" if default else "", what) for name, default, what in describe()]
    return table(("name", "default", "what it is"), rows)


def metrics() -> str:
    redaction = "speechbridge.server.processors.redaction:Redaction"
    app = create_app(
        Settings.read(engine="embedded", processors=redaction, account_streams=10, redis_url="redis://host")
    )
    app.state.metrics.closed(1000)
    text = (app.state.metrics.text() + text_of(of_workers(2, 0, 0))).decode()
    rows = [row for family in text_string_to_metric_families(text) for row in of(family)]
    return table(("name", "type", "labels", "what it is"), rows)


def of(family: Metric) -> Iterator[tuple[str, str, str, str]]:
    """Describe a metric; those of the process are the Prometheus client's own."""
    if not family.name.startswith("speechbridge_"):
        return
    labels = {label for sample in family.samples for label in sample.labels} - {"le"}
    name = f"{family.name}_total" if family.type == "counter" else family.name
    yield f"`{name}`", family.type, ", ".join(f"`{label}`" for label in sorted(labels)), family.documentation


TABLES = {"settings.md": settings, "metrics.md": metrics}


def written(page: str, found: str) -> str:
    """Return a page with its table as it is to be."""
    text = (DOCS / page).read_text()
    between = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    changed, count = between.subn(lambda _: f"{BEGIN}\n\n{found}\n{END}", text)
    if count != 1:
        raise ValueError(f"{page} has no single place for its table")
    return changed


def main() -> None:
    for page, make in TABLES.items():
        (DOCS / page).write_text(written(page, make()))


if __name__ == "__main__":
    main()
