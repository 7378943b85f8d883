"""Where a server is, and how it is talked to."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import httpx

# For a connection to be there: a host that does not answer by then is not there.
CONNECT_SECONDS = 10.0
# Beyond what the server is given, for what it says then to arrive.
ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Configuration:
    """The address, the key, and the limits of time and of retries, as Client describes them."""

    url: str
    key: str | None = field(repr=False)
    timeout: float
    retries: int
    retry_seconds: float

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{self.url!r} is not an address: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{self.url!r} is not an address such as http://127.0.0.1:8000")

    def timeouts(self, granted: float) -> httpx.Timeout:
        """Return those of a call for which the server is given so many seconds."""
        read = max(self.timeout, granted + ANSWER_SECONDS if granted else 0.0)
        return httpx.Timeout(self.timeout, connect=min(CONNECT_SECONDS, self.timeout), read=read)

    @property
    def arguments(self) -> dict[str, Any]:
        """What a client of httpx is made with."""
        headers = {"User-Agent": f"sonant/{version('sonant')}", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return {
            "base_url": self.url,
            "headers": headers,
            # As many connections as there are calls: who makes them bounds them.
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0),
        }
