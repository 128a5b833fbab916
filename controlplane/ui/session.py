"""Signing in, and the secret that every form carries.

The token becomes a cookie that no script can read and no other site can have sent; Envoy verifies it with each request.
Here it is verified once more, so that one that is refused is refused with the reason.
"""

from __future__ import annotations

import hashlib
import hmac

import jwt
from flask import Blueprint, Flask, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as Answer

from controlplane.api.caller import current
from controlplane.ui.backend import ApiError
from controlplane.ui.deps import PageDeps, SignIn

HOME = "/ui/endpoints/"
FIELD = "form_token"
#: Paths that are asked for without a token.
OPEN = ("/ui/sign-in/", "/ui/static/")


def install(app: Flask, deps: PageDeps) -> None:
    """Refuse every form that was not made here, for whoever sends it."""

    @app.before_request
    def _check_form() -> None:
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            return
        # Browsers say so themselves; it also keeps others from signing somebody in under another name.
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            raise ApiError(403, "PERMISSION_DENIED", "This form was sent from another site, and nothing was done.")
        if request.path.startswith(OPEN):
            return
        given = request.form.get(FIELD) or request.headers.get("X-Form-Token", "")
        if not hmac.compare_digest(given.encode(), form_token(deps).encode()):
            raise ApiError(
                403, "PERMISSION_DENIED", "This form was not made for you, or is out of date: load the page again."
            )


def form_token(deps: PageDeps) -> str:
    """The secret of the forms that whoever makes the request in hand gets."""
    return hmac.new(deps.form_key, current().user.encode(), hashlib.sha256).hexdigest()


def blueprint(deps: PageDeps) -> Blueprint:
    """Signing in and out."""
    pages = Blueprint("session", __name__, url_prefix="/ui/sign-in")

    @pages.get("/")
    def form() -> Response | Answer:
        if deps.sign_in is None:
            return redirect(HOME, 303)
        answer = make_response(render_template("sign_in.html", to=_inside(request.args.get("to", "")), refusal=""))
        if "HX-Request" in request.headers:  # a part of a page was asked for, and the whole must change
            answer.headers["HX-Redirect"] = "/ui/sign-in/"
        return answer

    @pages.post("/")
    def sign_in() -> Response | Answer:
        to = _inside(request.form.get("to", ""))
        if deps.sign_in is None:
            return redirect(to, 303)
        token = request.form.get("token", "").strip().removeprefix("Bearer ").strip()
        refusal = refused(deps.sign_in, token)
        if refusal:
            return make_response(render_template("sign_in.html", to=to, refusal=refusal), 403)
        answer = redirect(to, 303)
        answer.set_cookie(deps.sign_in.cookie, token, path="/", secure=_is_https(), httponly=True, samesite="Strict")
        return answer

    @pages.post("/out")
    def sign_out() -> Answer:
        answer = redirect("/ui/sign-in/", 303)
        if deps.sign_in is not None:
            answer.delete_cookie(deps.sign_in.cookie, path="/", secure=_is_https(), httponly=True, samesite="Strict")
        return answer

    return pages


def refused(sign_in: SignIn, token: str) -> str:
    """Why the token is not accepted, "" when it is."""
    if not token:
        return "Paste a token."
    try:
        claims = sign_in.signer.read(token)
    except jwt.ExpiredSignatureError:
        return "This token has expired; make another one with wye tokens create."
    except jwt.InvalidTokenError:
        return "This is not a token of this Wye."
    known = sign_in.tokens.get(str(claims.get("tid")))
    return "This token was revoked." if known is not None and known.revoked_ms is not None else ""


def _inside(path: str) -> str:
    """The path if it is one of this page's own, else where the page begins."""
    plain = path.startswith("/ui/") and not path.startswith("/ui/sign-in") and path.isprintable() and "\\" not in path
    return path if plain else HOME


def _is_https() -> bool:
    return request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
