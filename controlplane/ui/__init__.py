"""The Serving page: HTML for people, made on the server.

It decides nothing and changes nothing by itself: all that it reads of one endpoint, and all that it does, goes through the
API in the name of whoever is signed in (`backend.py`), so that it can never do what the API refuses.
"""

from controlplane.ui.app import create_page
from controlplane.ui.deps import PageDeps
from controlplane.ui.mount import mounted

__all__ = ["PageDeps", "create_page", "mounted"]
