"""The list of endpoints."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from flask import Blueprint, render_template, request

from controlplane.api.caller import permission
from controlplane.ui import listing
from controlplane.ui.backend import Api
from controlplane.ui.deps import PageDeps


def blueprint(deps: PageDeps, _api: Api) -> Blueprint:
    """The list, whole or as the part that changes."""
    pages = Blueprint("endpoints", __name__, url_prefix="/ui/endpoints")

    @pages.get("/")
    def show() -> str:
        asked = _asked()
        visible = [endpoint for endpoint in deps.endpoints.cell.snapshot().values() if permission(endpoint)]
        now_ms = deps.clock.now_ms()
        page = listing.listed(visible, asked, deps.replicas_of, lambda keys: deps.history.recent(keys, now_ms))
        for row in page.rows:
            if row.load.requests:
                deps.history.watch(row.name, now_ms)
        whole = "HX-Request" not in request.headers
        return render_template(
            "endpoints.html" if whole else "endpoints_part.html",
            asked=asked,
            page=page,
            tags=listing.tags_of(visible) if whole else (),
            link=lambda **changed: _link(asked, **changed),
        )

    return pages


def _asked() -> listing.Asked:
    given = request.args
    page = given.get("page", "1")
    sort = given.get("sort", "name")
    return listing.Asked(
        text=given.get("q", "").strip()[:200],
        tag=given.get("tag", "")[:500],
        state=given.get("state", ""),
        sort=sort if sort in listing.SORTS else "name",
        page=int(page) if page.isdecimal() and len(page) < 7 else 1,
    )


def _link(asked: listing.Asked, **changed: object) -> str:
    """The list with something else asked for, and else as it is."""
    now = replace(asked, **{"page": 1, **changed})  # type: ignore[arg-type]
    query = {"q": now.text, "tag": now.tag, "state": now.state, "sort": now.sort, "page": str(now.page)}
    usual = {"q": "", "tag": "", "state": "", "sort": "name", "page": "1"}
    return "/ui/endpoints/?" + urlencode({key: value for key, value in query.items() if value != usual[key]})
