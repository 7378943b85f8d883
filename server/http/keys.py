"""Who may ask for what. Checked before a body is read; what no rule opens needs a key as soon as there are keys.

| area | which paths | opened by |
|---|---|---|
| public | /health/*, /, /docs, /docs/files/*, /redoc, /openapi.json | nothing |
| tasks | all others | a key of api_keys or admin_keys; open without api_keys |
| metrics | /metrics | a key of metrics_keys or admin_keys; open where there are no keys at all |
| management | what changes /v1/models | a key of admin_keys; open where there are no keys at all, on loopback |
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Mapping
from typing import Literal

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import AccessDeniedError, ApiError, ApiKeyInvalidError, ApiKeyMissingError
from server.http.envelope import envelope
from server.settings import Settings

logger = logging.getLogger(__name__)

Area = Literal["public", "tasks", "metrics", "management"]

# The documents describe the interface and nothing of this server: they are those of every Sonant.
PUBLIC = ("/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
# The folder of what they show themselves with.
DOCUMENT_FILES = "/docs/files"
# What a page opens a WebSocket with, since it cannot set headers: `new WebSocket(url, [PROTOCOL, KEY_PROTOCOL + key])`.
# The answer has only the first.
PROTOCOL, KEY_PROTOCOL = "sonant", "sonant.key."
# What a page of another origin may send, and read of the answer.
CORS_REQUEST_HEADERS = ("Authorization", "Content-Type", "X-API-Key", "X-Request-Id")
CORS_ANSWER_HEADERS = ("Retry-After", "Server-Timing", "X-Request-Id", "X-Windows", "X-Frame-Rate")


class Authentication:
    """Refuses requests without a key for what they ask."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        admin = settings.admin_keys
        self._keys: dict[Area, Mapping[str, str]] = {
            "tasks": settings.api_keys | admin if settings.api_keys else {},
            "metrics": settings.metrics_keys | admin,
            "management": admin,
        }
        self._all = settings.api_keys | settings.metrics_keys | admin
        self._open: set[Area] = {"public"}
        if not settings.api_keys:
            self._open.add("tasks")
        if not self._all:
            self._open.add("metrics")
        self._origins = set(settings.cors_origins)
        self._loopback = not self._all and is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside, or answer 401 or 403."""
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(scope)
            except ApiError as error:
                answer = envelope(error)
                if error.status == 401:
                    answer.headers["WWW-Authenticate"] = 'Bearer realm="sonant"'
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raise ApiKeyMissingError, ApiKeyInvalidError or AccessDeniedError."""
        area, headers = area_of(scope.get("method", "GET"), scope["path"]), Headers(scope=scope)
        if scope["type"] == "websocket":
            self._refuse_foreign_pages(headers)
        if area in self._open:
            return
        if area == "management" and self._loopback:
            _refuse_pages(headers)
            return
        allowed = self._keys[area]
        if not allowed:
            raise AccessDeniedError(f"no key opens this: the server has no {_setting(area)}")
        key = key_of(headers)
        if key is None:
            raise ApiKeyMissingError("send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        name = find(key, allowed)
        if name is None:
            if find(key, self._all) is not None:
                raise AccessDeniedError(f"this key does not open {area}")
            raise ApiKeyInvalidError("the key is not valid")
        scope.setdefault("state", {})["key"] = name

    def _refuse_foreign_pages(self, headers: Headers) -> None:
        """Refuse a WebSocket of a page that may not call the server: browsers leave that to who is called."""
        if is_foreign(headers) and not {"*", headers["origin"]} & self._origins:
            raise AccessDeniedError("pages of another origin may not open a WebSocket: cors_origins has those that may")


def area_of(method: str, path: str) -> Area:
    """Return what the request is for; `path` is the decoded one by which routes are found."""
    if path in PUBLIC or path.startswith(("/health/", f"{DOCUMENT_FILES}/")):
        return "public"
    if path == "/metrics":
        return "metrics"
    if path.startswith("/v1/models") and method not in ("GET", "HEAD"):
        return "management"
    return "tasks"


def key_of(headers: Headers) -> bytes | None:
    """Return the key of a request."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    text = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "") or _offered_key(headers)
    return text.encode("latin-1") or None  # as headers were decoded


def _offered_key(headers: Headers) -> str:
    """Return the key that stands among the subprotocols of a WebSocket: the one header that pages choose for it."""
    offered = headers.get("sec-websocket-protocol", "").split(",")
    return next((text.strip()[len(KEY_PROTOCOL) :] for text in offered if text.strip().startswith(KEY_PROTOCOL)), "")


def is_foreign(headers: Headers) -> bool:
    """Whether a page of another origin sends the request. Its host is that of the page's own server."""
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def find(key: bytes, keys: Mapping[str, str]) -> str | None:
    """Return the name of `key`, whose hash is compared with all of `keys` in constant time."""
    digest = hashlib.sha256(key).hexdigest()
    # A list: all are compared, whichever is the right one.
    matches = [name for name, expected in keys.items() if hmac.compare_digest(digest, expected)]
    return matches[0] if matches else None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`, with or without a port."""
    name = host.removeprefix("[").partition("]")[0] if host.startswith("[") else host
    if name.count(":") == 1:
        name = name.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def warn_if_open(settings: Settings) -> None:
    """Say in the log what everybody may do."""
    if is_loopback(settings.host):
        return
    if not settings.api_keys:
        logger.warning(
            "EVERYBODY who reaches %s:%d may use every model: there are no api_keys; `sonant key` makes one",
            settings.host,
            settings.port,
        )
    if "*" in settings.cors_origins:
        logger.warning("every page that a user of this network opens may call this server: cors_origins has *")


def _refuse_pages(headers: Headers) -> None:
    """Refuse a browser that a page of elsewhere sends: loopback keeps other machines out, not their pages.

    The host is looked at since the name of such a page can be made to lead here.
    """
    if not is_loopback(headers.get("host", "")):
        raise AccessDeniedError("without admin_keys, models are managed under a loopback address only")
    if is_foreign(headers):
        raise AccessDeniedError("without admin_keys, pages of another origin do not manage models")


def _setting(area: Area) -> str:
    return "metrics_keys or admin_keys" if area == "metrics" else "admin_keys"
