"""The services of docker-compose.yml, brought up with podman-compose."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import httpx

from deploy.verify import podman
from deploy.verify.shell import ROOT, run, until

READY_SECONDS = 180
# podman-compose knows a service only where its profile is named; what is started is named too.
PROFILES = ("cpu", "export", "monitoring", "rolling", "rolling-other")
# Beside docker-compose.yml: what podman in a container wants.
OVERRIDE = Path(__file__).with_name("podman.yml")


class Stack:
    """One project of the compose file with its own settings, volumes and ports. Leaving it removes everything."""

    PROJECT = "sonant-verify"

    def __init__(self, folder: Path, **settings: str) -> None:
        """Take the `settings` that .env would have; `folder` is for the files."""
        self.port, self.prometheus_port = free_ports(2)
        given = {
            "PORT": str(self.port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
            "OPEN_FILES": str(podman.open_files()),
            "MODELS_VOLUME": f"{self.PROJECT}-models",
            "PROXY_IMAGE": "localhost/sonant:proxy",
            "PROMETHEUS_IMAGE": "localhost/sonant:prometheus",
            "EXPORT_IMAGE": "localhost/sonant:export",
            **settings,
        }
        self.file = folder / "compose.env"
        self.file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        files = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(OVERRIDE)]
        self.command = ["podman-compose", "-p", self.PROJECT, "--env-file", str(self.file), *files]
        self.command += [f"--profile={name}" for name in PROFILES]
        self.environment = {"IMAGE": "localhost/sonant:cpu"}

    def __enter__(self) -> Stack:
        """Begin with nothing that an earlier run left."""
        self.remove()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove containers, networks and volumes."""
        self.remove()

    def compose(
        self, *words: str, seconds: float = 300, ok: bool = True, image: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run podman-compose; `image` is that of the servers, if it is another."""
        environment = {"IMAGE": image} if image else self.environment
        return run([*self.command, *words], environment=environment, seconds=seconds, ok=ok)

    def up(self, *services: str) -> None:
        """Start services."""
        self.compose("up", "-d", "--no-build", *services)

    def ready(self, service: str = "server", seconds: float = READY_SECONDS) -> float:
        """Wait until the container of `service` is healthy; return the seconds."""
        command = ["podman", "healthcheck", "run", self.container(service)]
        return until(lambda: run(command, ok=False).returncode == 0, seconds, f"{service} is healthy")

    def container(self, service: str) -> str:
        """Return the name of the container of `service`."""
        return f"{self.PROJECT}_{service}_1"

    def inside(self, service: str, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the container of `service`."""
        return run(["podman", "exec", self.container(service), *words], ok=ok)

    def status(self, service: str) -> int:
        """Return the exit status of the container of `service`."""
        return int(run(["podman", "inspect", "--format", "{{.State.ExitCode}}", self.container(service)]).stdout)

    def logs(self, service: str) -> str:
        """Return what a service has printed."""
        return run(["podman", "logs", self.container(service)]).stdout

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client of the server, or of the proxy before it."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=120)

    def remove(self) -> None:
        """Remove every container, network and volume of the project."""
        found = run(
            ["podman", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.PROJECT}"]
        )
        if found.stdout.split():
            run(["podman", "rm", "--force", "--time", "1", *found.stdout.split()])
        run(["podman", "network", "rm", "--force", f"{self.PROJECT}_default"], ok=False)
        volumes = run(["podman", "volume", "ls", "--quiet"]).stdout.split()
        volumes = [name for name in volumes if name.startswith((f"{self.PROJECT}_", f"{self.PROJECT}-"))]
        if volumes:
            run(["podman", "volume", "rm", "--force", *volumes])


def free_ports(count: int) -> list[int]:
    """Return ports of this host that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
