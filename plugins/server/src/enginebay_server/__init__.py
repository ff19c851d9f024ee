"""An OpenAI-compatible server over a bay of models. ``app(bay)`` is an ASGI application; ``enginebay serve`` runs one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginebay_server.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from enginebay import Bay

__version__ = "0.1.0"
__all__ = ["Settings", "app"]


def app(bay: Bay, settings: Settings | None = None) -> FastAPI:
    """The ASGI application over a bay, to be served or mounted in another. The bay stays the caller's.

    :param settings: limits, keys and names (None: defaults that are safe on a loopback address)
    """
    from enginebay_server.application import app as build

    return build(bay, settings)
