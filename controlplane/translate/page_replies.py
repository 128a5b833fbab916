"""What Envoy itself answers to browsers: where the Serving page is, where to sign in, and that the control plane is away.

Replies that Envoy makes can be told apart by path and status only, so these stand before the JSON errors of `errors.py`.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLogFilter, ExtensionFilter
from envoy_data_plane.envoy.config.core.v3 import DataSource, HeaderValueOption, SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import ResponseMapper

from controlplane.translate.messages import pack, set_header

_HOME, _SIGN_IN = "/ui/endpoints/", "/ui/sign-in/"
#: Paths of fewer than three segments have no scope (DESIGN.md section 3), so that no route can redirect them.
_NO_PATH = "request.method in ['GET', 'HEAD'] && request.path.matches('^/(ui/?)?([?].*)?$') && response.code == 404"
_SIGNED_OUT = (
    "request.path.startsWith('/ui/') && (response.code == 401 || "
    "response.code_details == 'rbac_access_denied_matched_policy[revoked]')"
)
_NO_CONTROL_PLANE = "request.path.startsWith('/ui/') && response.code in [502, 503, 504]"

_AWAY = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Wye · one moment</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 32rem; margin: 20vh auto; padding: 0 1.5rem }
h1 { font-size: 1.25rem }
</style>
<main>
<h1>The control plane does not answer</h1>
<p>It is starting or restarting. Models go on serving meanwhile, and this page tries again by itself every two seconds.</p>
</main>
</html>
"""


def mappers() -> list[ResponseMapper]:
    """The replies, in the order in which they are tried."""
    return [
        _redirect(_NO_PATH, _HOME),
        _redirect(_SIGNED_OUT, f"{_SIGN_IN}?to=%PATH(NQ)%"),
        ResponseMapper(
            filter=_when(_NO_CONTROL_PLANE),
            status_code=503,
            body_format_override=SubstitutionFormatString(
                text_format_source=DataSource(inline_string=_AWAY), content_type="text/html; charset=utf-8"
            ),
            headers_to_add=[
                *(set_header("retry-after", "2"), set_header("refresh", "2"), set_header("cache-control", "no-store")),
                set_header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"),
            ],
        ),
    ]


def _redirect(expression: str, where: str) -> ResponseMapper:
    headers: list[HeaderValueOption] = [set_header("location", where), set_header("cache-control", "no-store")]
    return ResponseMapper(filter=_when(expression), status_code=303, headers_to_add=headers)


def _when(expression: str) -> AccessLogFilter:
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=pack(ExpressionFilter(expression=expression)),
        )
    )
