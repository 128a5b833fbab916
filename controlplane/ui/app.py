"""The page as a Flask application: what all its answers have in common, and where its parts are."""

from __future__ import annotations

import hashlib
import logging
import mimetypes
from functools import partial
from pathlib import Path

from flask import Flask, Response, g, make_response, render_template, request
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException, NotFound

from controlplane.api import caller, request_id
from controlplane.domain import ProblemError
from controlplane.store import StaleWriteError, StoreUnavailableError
from controlplane.ui import session, text
from controlplane.ui.backend import Api, ApiError
from controlplane.ui.deps import PageDeps
from controlplane.ui.pages import (
    configuration,
    control_plane,
    endpoint,
    endpoints,
    history,
    logs,
    permissions,
    query,
    settings,
)

_log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
LARGEST_FORM = 1024 * 1024
#: Nothing but our own files is loaded, run or sent to, and nobody may frame the page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FOR_EVER = "public, max-age=31536000, immutable"


def create_page(deps: PageDeps) -> Flask:
    """The WSGI application of everything under `/ui/`."""
    app = Flask("wye-page", root_path=str(_HERE), static_folder=None, template_folder="templates")
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = LARGEST_FORM
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    request_id.install(app)

    @app.before_request
    def _identify() -> None:
        if not request.path.startswith(session.OPEN):
            caller.identify(tokens=deps.sign_in is not None)

    session.install(app, deps)
    _install_answers(app)
    _install_words(app, deps)
    _install_files(app)
    api = Api(deps.api)
    app.register_blueprint(session.blueprint(deps))
    for part in (
        *(endpoints, endpoint, configuration, query, history),
        *(permissions, settings, logs, control_plane),
    ):
        app.register_blueprint(part.blueprint(deps, api))
    return app


def _install_answers(app: Flask) -> None:
    @app.after_request
    def _protect(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.add("Vary", "HX-Request")
        return response

    app.register_error_handler(ApiError, lambda error: _refused(error.status, error.message))
    app.register_error_handler(ProblemError, lambda error: _refused(error.code.status, str(error)))
    app.register_error_handler(StoreUnavailableError, lambda error: _refused(503, str(error)))
    app.register_error_handler(
        StaleWriteError, lambda _: _refused(409, "Somebody else changed it at the same time; look, then try again.")
    )
    app.register_error_handler(HTTPException, lambda error: _refused(error.code or 500, _plain(error)))
    app.register_error_handler(Exception, _bug)


def _plain(error: HTTPException) -> str:
    return {404: "There is no such page.", 405: "That is not possible here."}.get(
        error.code or 500, error.description or ""
    )


def _bug(error: Exception) -> Response:
    _log.error("request %s: %s %s", request_id.current(), request.method, request.path, exc_info=error)
    return _refused(500, f"The page failed to do this; the log says why, under {request_id.current()}.")


def _refused(status: int, message: str) -> Response:
    """A page that says why; for a part of a page, the message alone."""
    signed_in = "caller" in g
    template = "refusal_part.html" if "HX-Request" in request.headers or not signed_in else "refusal.html"
    return make_response(render_template(template, status=status, message=message), status)


def _install_words(app: Flask, deps: PageDeps) -> None:
    """What every template may use."""
    app.jinja_env.filters.update(
        ago=lambda then_ms: text.ago(then_ms, deps.clock.now_ms()),
        moment=text.moment,
        rate=text.rate,
        milliseconds=text.milliseconds,
        percent=text.percent,
        to=text.to,
    )
    app.jinja_env.globals.update(
        form_token=partial(session.form_token, deps),
        form_field=session.FIELD,
        me=caller.current,
        has_sign_in=deps.sign_in is not None,
    )


def _install_files(app: Flask) -> None:
    """The static files, which are few and small: read once, and asked for under the hash of what they hold."""
    files = {file.name: file.read_bytes() for file in (_HERE / "static").iterdir()}
    app.jinja_env.globals["static"] = {
        name: f"/ui/static/{name}?v={hashlib.blake2b(content, digest_size=6).hexdigest()}"
        for name, content in files.items()
    }

    @app.get("/ui/static/<name>")
    def static_file(name: str) -> Response:
        if name not in files:
            raise NotFound
        response = Response(files[name], mimetype=mimetypes.guess_type(name)[0])
        response.headers["Cache-Control"] = _FOR_EVER if request.args.get("v") else "no-cache"
        return response
