"""The `monitoring` profile's Prometheus, with the provisioned configuration, and a key for the server's metrics."""

from __future__ import annotations

from typing import Any

import httpx

from deploy.verify.shell import check, until
from deploy.verify.stack import Stack

# Two scrapes of the provisioned configuration, and the start of both.
SCRAPED_SECONDS = 90


def scrapes(stack: Stack) -> str:
    """Have Prometheus scrape the server; return what it found."""
    stack.up("prometheus")
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.prometheus_port}", timeout=10) as client:

        def value(query: str) -> list[Any]:
            try:
                answer = client.get("/api/v1/query", params={"query": query})
            except httpx.TransportError:  # it starts
                return []
            return list(answer.json()["data"]["result"]) if answer.status_code == 200 else []

        up = 'up{job="sonant"} == 1'
        seconds = until(lambda: value(up), SCRAPED_SECONDS, f"Prometheus says {up}")
        models = {one["metric"]["model"] for one in value('sonant_model_state{state="ready"} == 1')}
        check(models, "Prometheus has no models of the server")
        rules = client.get("/api/v1/rules").json()["data"]["groups"]
        alerts = [rule for group in rules for rule in group["rules"]]
        wrong = [rule["name"] for rule in alerts if rule["health"] == "err"]
        check(alerts and not wrong, f"rules that cannot be evaluated: {wrong}")
    return f"up after {seconds:.0f} s with the metrics key; {len(alerts)} rules; models: {', '.join(sorted(models))}"
