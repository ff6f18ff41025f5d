"""The captions page: a few files, read once and served from memory.

Their names do not change with their content, so browsers revalidate them each time (`no-cache`). The ETag is a hash, so
it is the same on every server with the same files. One more file, `options.json`, is made from the settings.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException, Request, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

FILES = Path(__file__).parents[1] / "static"
READING = "reading.html"  # the page for readers of a shared transcript: the same page with another script

# By suffix, because the system's own list of types may be wrong, and browsers run no script of a wrong type.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
    ".json": "application/json",
}

# 'self' includes WebSockets of the same origin (in Safari since 15.5), and the audio worklet, which counts as a script.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "manifest-src 'self'; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "permissions-policy": "microphone=(self), display-capture=(self), screen-wake-lock=(self), camera=()",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
    "service-worker-allowed": "/",  # static/offline.js serves the page, which is one level above it
}


def router(languages: Sequence[str] = ()) -> APIRouter:
    """Make the routes, and read the files. `languages` are those that the page offers, the default first."""
    routes = APIRouter(default_response_class=Response)
    files = {path.name: path.read_bytes() for path in FILES.iterdir() if path.suffix in TYPES}
    files["options.json"] = json.dumps({"languages": [*languages]}).encode()
    files[READING] = files["index.html"].replace(b"static/page.mjs", b"static/reading.mjs")
    tags = {name: f'"{sha256(content).hexdigest()[:32]}"' for name, content in files.items()}

    @routes.head("/", include_in_schema=False)
    @routes.get("/")
    async def page(request: Request) -> Response:
        return await file(READING if "read" in request.query_params else "index.html", request)

    @routes.head("/static/{name}", include_in_schema=False)
    @routes.get("/static/{name}", responses={404: {"description": "There is no such file"}})
    async def file(name: str, request: Request) -> Response:
        if name not in files:
            raise HTTPException(404)
        headers = HEADERS | {"etag": tags[name]}
        if tags[name] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(files[name], headers=headers, media_type=TYPES[Path(name).suffix])

    return routes
