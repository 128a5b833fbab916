"""The Flask application, put together."""

from __future__ import annotations

from flask import Flask

from controlplane.api import (
    access,
    attributes,
    caller,
    config,
    endpoints,
    errors,
    logs,
    me,
    metrics,
    models,
    not_built,
    openapi,
    permissions,
    request_id,
    secrets,
    status,
    tokens,
)
from controlplane.api.deps import Deps

#: Larger bodies are refused; the largest config that keeps the rules has a tenth of this.
LARGEST_BODY = 4 * 1024 * 1024


def create_app(deps: Deps) -> Flask:
    """The WSGI application of the control plane; every answer it gives is JSON and carries the request's id."""
    app = Flask("wye", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # MLflow's client calls the collection with a trailing slash, the SDKs without; a redirect would turn POST into GET.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    request_id.install(app)
    errors.install(app)
    caller.install(app, tokens=deps.auth is not None)
    access.install(app, deps)
    for resource in (
        *(endpoints, config, attributes, logs, metrics, openapi, permissions, tokens, secrets, me),
        *(models, not_built, status),
    ):
        app.register_blueprint(resource.blueprint(deps))
    app.register_blueprint(metrics.fleet(deps))
    app.register_blueprint(tokens.management(deps))
    app.register_blueprint(secrets.access_lists(deps))
    return app
