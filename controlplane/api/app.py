"""The Flask application, put together."""

from __future__ import annotations

from flask import Flask

from controlplane.api.deps import Deps


def create_app(deps: Deps) -> Flask:
    """The WSGI application of the control plane; every answer it gives is JSON."""
    app = Flask("wye", static_folder=None)
    app.extensions["wye"] = deps
    return app
