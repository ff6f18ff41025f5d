"""MkDocs' view of the repository: README.md is the first page, bridge/README.md one of the others.

The pages are read on a forge as well, so their links are those between files. Here a link to a page becomes one to that
page, and a link to any other file leads to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"index.md": "README.md", "bridge.md": "bridge/README.md"}  # pages that are no files of docs/

LINK = re.compile(r"(\]\()(?!\w+:)([^)#\s]+)([^)]*\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that lie elsewhere."""
    for name, path in ELSEWHERE.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text()))
    for picture in (ROOT / "tests" / "bench" / "results").glob("*.svg"):
        path = str(picture.relative_to(ROOT))
        files.append(File.generated(config, path, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite a page's links."""
    name = page.file.src_uri
    folder = posixpath.dirname(ELSEWHERE.get(name, f"docs/{name}"))
    pages = {path: uri for uri, path in ELSEWHERE.items()}

    def target(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, found[2]))
        uri = pages.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(uri) is None:
            uri = f"{config.repo_url}/blob/main/{path}"
        return f"{found[1]}{uri}{found[3]}"

    return LINK.sub(target, markdown)
