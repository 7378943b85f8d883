"""The `rolling` profile: a server is replaced by deploy/rollout.sh while clients ask, and none of them notices."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from deploy.verify.serving import RECORDING, noise, transcription
from deploy.verify.shell import check, run, until
from deploy.verify.stack import READY_SECONDS, Stack

CLIENTS = 4
ROLLOUT_SECONDS = 400
UNREADY_SECONDS = 10
LONG_SECONDS = 20
PAUSE_SECONDS = 0.02
FIRST, NEXT, BROKEN = "localhost/sonant:cpu", "localhost/sonant:cpu-next", "localhost/sonant:cpu-broken"


class Traffic:
    """Clients that ask again and again over connections that they keep, but for one that leaves after each answer."""

    def __init__(self, stack: Stack) -> None:
        self.counts: Counter[str] = Counter()
        self._stack = stack
        self._over = threading.Event()
        self._long = noise(LONG_SECONDS)

    def ask(self, number: int) -> None:
        """Ask until it is over."""
        while not self._over.is_set():
            with self._stack.client() as client:
                while not self._over.is_set():
                    self._ask_once(client, number)
                    time.sleep(PAUSE_SECONDS)
                    if number == 0:
                        break

    def _ask_once(self, client: httpx.Client, number: int) -> None:
        # The last one sends more than the proxy could keep to send it again, and waits longer.
        if number == CLIENTS - 1:
            path, data, options = "/v1/encode", self._long, {"pooling": "mean", "model": "hubert-ctc-english"}
        else:
            path, data, options = "/v1/transcribe", RECORDING.read_bytes(), {}
        try:
            answer = client.post(path, files={"file": data}, data=options)
            self.counts[str(answer.status_code)] += 1
        except httpx.TransportError as error:
            self.counts[type(error).__name__] += 1

    @property
    def failed(self) -> dict[str, int]:
        """What was not answered 200, by what it was."""
        return {name: count for name, count in self.counts.items() if name != "200"}

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Ask for as long as the context lasts."""
        threads = [threading.Thread(target=self.ask, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()


def starts(stack: Stack) -> str:
    """Start the proxy and the first server."""
    for name, instruction in ((NEXT, "LABEL next=1"), (BROKEN, 'CMD ["serve", "--models", "/nowhere"]')):
        run(["podman", "build", "--format", "docker", "--tag", name, "-"], text=f"FROM {FIRST}\n{instruction}\n")
    stack.up("blue", "proxy")
    stack.ready("blue")
    with stack.client() as client:
        until(lambda: client.get("/health/ready").status_code == 200, READY_SECONDS, "the proxy finds blue")
        return transcription(client)


def replaces(stack: Stack) -> str:
    """Roll a new image out under traffic, one that does not start, and the first one again; count what failed."""
    traffic = Traffic(stack)
    with traffic.going_on():
        rollout(stack, NEXT)
        check(image_of(stack, "green") == NEXT, "green does not run the new image")
        check(not is_running(stack, "blue"), "blue still runs")
        check(stack.status("blue") == 0, f"blue ended with {stack.status('blue')}")
        output = rollout(stack, BROKEN, ok=False, READY_SECONDS=str(UNREADY_SECONDS))
        check("serves as before" in output, f"a server that does not start: {output}")
        check(is_running(stack, "green") and not is_running(stack, "blue"), "the wrong server was stopped")
        rollout(stack, FIRST)
        check(image_of(stack, "blue") == FIRST and not is_running(stack, "green"), "blue does not serve again")
    check(not traffic.failed, f"requests failed: {traffic.failed}, of {traffic.counts.total()}")
    check(traffic.counts["200"] > CLIENTS, "there was no traffic")
    found = f"{traffic.counts['200']} requests by {CLIENTS} clients over three rollouts, none failed"
    return f"{found}; an image that does not start changed nothing"


def rollout(stack: Stack, image: str, *, ok: bool = True, **settings: str) -> str:
    """Run deploy/rollout.sh; return what it said."""
    environment = {"IMAGE": image, "COMPOSE": " ".join(stack.command), **settings}
    done = run(["deploy/rollout.sh"], environment=environment, seconds=ROLLOUT_SECONDS, ok=ok)
    check(ok or done.returncode, f"a rollout of {image} went well:\n{done.stdout}")
    return done.stdout


def is_running(stack: Stack, service: str) -> bool:
    """Whether the container of `service` runs."""
    return (
        run(["podman", "inspect", "--format", "{{.State.Running}}", stack.container(service)]).stdout.strip() == "true"
    )


def image_of(stack: Stack, service: str) -> str:
    """Return the image of the container of `service`."""
    return run(["podman", "inspect", "--format", "{{.ImageName}}", stack.container(service)]).stdout.strip()
