"""Routes for which the framework does nothing but to choose them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute


class DirectRoute(APIRoute):
    """A route of a function that takes the request and returns the response: FastAPI has nothing to solve or to check.

    It would find that out anew for each request.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function itself."""
        return self.endpoint


def direct_router() -> APIRouter:
    """Return a router of such routes."""
    return APIRouter(route_class=DirectRoute)
