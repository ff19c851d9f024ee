"""The pages that a browser is shown: each is one file, which fetches nothing from elsewhere. It knows no endpoint."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

from fastapi.responses import HTMLResponse

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "script-src 'unsafe-inline'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the pages may do: run what is written in them, and call this server."""


def shown(name: Literal["chat", "description"]) -> HTMLResponse:
    """The answer that shows a page."""
    return HTMLResponse(_text(name), headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"})


@cache
def _text(name: str) -> str:
    return (files("enginebay_server") / "pages" / f"{name}.html").read_text("utf-8")
