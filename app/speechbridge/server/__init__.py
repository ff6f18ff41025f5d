"""The service. `create_app` makes the ASGI application; `run` serves it."""

from speechbridge.server.app import create_app

__all__ = ["create_app"]
