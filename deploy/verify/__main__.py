"""Builds the images, brings the services up, and proves what is said of them: `python -m deploy.verify`, as root.

Steps show as they are done; the first that fails ends it with what was found, and what ran then is removed. What was
found until then is written. Logs of builds stay in the folder that is named at the start.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.verify import exporting, hardships, images, monitoring, podman, results, rolling, serving
from deploy.verify.results import Results, Size, Step
from deploy.verify.shell import ROOT, VerificationError, check, run
from deploy.verify.stack import Stack


class Report:
    """Runs the steps, shows them, and writes what each found, in the place of what it found before."""

    def __init__(self, before: Results | None, *, fresh: bool) -> None:
        self._steps = {step.name: step for step in (before.steps if before else ())}
        self._sizes = {size.target: size for size in (before.sizes if before else ())}
        self._fresh = fresh

    def step(self, name: str, do: Callable[[], str]) -> None:
        """Do one thing. Raises VerificationError that begins with its name."""
        print(f"{time.strftime('%H:%M:%S')} {name} ...", flush=True)
        start = time.monotonic()
        try:
            found = do()
        except VerificationError as error:
            raise VerificationError(f"{name}: {error}") from None
        seconds = time.monotonic() - start
        self._steps[name] = Step(name=name, found=found, seconds=round(seconds, 1))
        results.write(results.collect(self._sizes.values(), self._steps.values(), fresh=self._fresh))
        print(f"         {found} ({seconds:.1f} s)", flush=True)

    def build(self, builder: images.Builder, target: str, *arguments: str, note: str = "") -> None:
        """Build a target, and look into it."""

        def do() -> str:
            image = builder.build(target, *arguments)
            self._sizes[target] = Size(
                target=target,
                note=note,
                bytes=image.size,
                base_bytes=image.base_size,
                build_seconds=round(image.seconds, 1),
            )
            found = [images.check_configuration(image)]
            if target != "export":
                found.append(images.check_server(image))
            return f"{image.size / 1e6:.0f} MB; {'; '.join(found)}"

        self.step(f"image {target}", do)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the images, run them, and prove what is said of them.")
    parser.add_argument("--base-image", help="in place of one that is made of Debian's packages")
    parser.add_argument(
        "--torch-index", help="where torch's build for processors is; empty: where pip looks here (default: PyTorch's)"
    )
    parser.add_argument("--gpu", action="store_true", help="also build the target gpu: 5 GB")
    parser.add_argument("--tensorrt", default="", help="the version for --gpu (default: none)")
    parser.add_argument(
        "--no-cache", action="store_true", help="build every layer anew, as the times in VERIFIED.md are"
    )
    parser.add_argument(
        "--only",
        choices=("build", "serve", "roll", "endure"),
        action="append",
        help="these parts, with images that are there; what was found of the others stays",
    )
    parser.add_argument(
        "--page", action="store_true", help="only write the page anew, from the results of the last run"
    )
    arguments = parser.parse_args(argv)
    if arguments.page:
        results.write(results.read())
        return 0
    folder = Path(tempfile.mkdtemp(prefix="sonant-verify-"))
    folder.chmod(0o755)  # what is mounted from it is read by another user
    print(f"Logs: {folder}")
    before = results.read() if arguments.only and results.RESULTS.exists() else None
    report = Report(before, fresh=arguments.no_cache)
    parts: dict[str, Callable[[], None]] = {
        "build": lambda: _build(report, folder, arguments),
        "serve": lambda: _serve(report, folder),
        "roll": lambda: _roll(report, folder),
        "endure": lambda: _endure(report, folder),
    }
    try:
        podman.prepare(folder)
        for name, part in parts.items():
            if name in (arguments.only or parts):
                part()
    except VerificationError as error:
        print(f"verify: {error}\nLogs: {folder}", file=sys.stderr)
        return 1
    print(f"Wrote {results.PAGE.relative_to(ROOT)}")
    return 0


def _build(report: Report, folder: Path, arguments: argparse.Namespace) -> None:
    base = arguments.base_image
    if base is None:
        report.step("base image", lambda: podman.base_image(folder / "debootstrap.log"))
        base = podman.BASE_IMAGE
    builder = images.Builder(base, folder, use_cache=not arguments.no_cache)
    report.step("compose file", _schema)
    report.build(builder, "cpu")
    index = arguments.torch_index
    report.build(builder, "export", *([] if index is None else [f"TORCH_INDEX={index}"]))
    if arguments.gpu:
        note = "" if arguments.tensorrt else "without TensorRT"
        report.build(builder, "gpu", f"TENSORRT={arguments.tensorrt}", note=note)
    report.step("stand-ins", lambda: _stand_ins(builder))
    report.step("wrong BASE_IMAGE", lambda: hardships.wrong_base(builder))


def _serve(report: Report, folder: Path) -> None:
    with Stack(folder) as stack:
        report.step("profile cpu", lambda: _up(stack))
        report.step("a recording", lambda: serving.transcribes(stack))
        report.step("locked in", lambda: serving.is_locked_in(stack))
        report.step("SIGTERM", lambda: serving.drains(stack))
    keys = exporting.secrets(folder)
    with Stack(folder, MODELS="models", SECRETS=str(keys.folder)) as stack:
        report.step("profile export", lambda: exporting.exports(stack))
        report.step("the exported engine", lambda: exporting.serves_the_export(stack, keys))
        report.step("profile monitoring", lambda: monitoring.scrapes(stack))


def _roll(report: Report, folder: Path) -> None:
    with Stack(folder) as stack:
        report.step("profile rolling", lambda: rolling.starts(stack))
        report.step("rollout", lambda: rolling.replaces(stack))


def _endure(report: Report, folder: Path) -> None:
    report.step("SIGTERM while starting", hardships.signal_while_starting)
    report.step("no models", lambda: hardships.empty_models(folder))
    report.step("models of root", lambda: hardships.models_of_root(folder))
    report.step("models read-only", hardships.read_only_models)
    report.step("no secret", hardships.missing_secret)
    report.step("secret of root", lambda: hardships.unreadable_secret(folder))
    report.step("spool of root", lambda: hardships.unwritable_spool(folder))
    report.step("spool full", lambda: hardships.full_spool(folder))


def _schema() -> str:
    """Have podman-compose resolve every profile."""
    done = run(["podman-compose", "-f", ROOT / "docker-compose.yml", "--profile=gpu", "--profile=build", "config"])
    check("server-gpu" in done.stdout, "podman-compose does not know the profile gpu")
    return "podman-compose resolves every profile"


def _stand_ins(builder: images.Builder) -> str:
    names = [builder.build(target, file=images.STANDINS).name for target in ("proxy", "prometheus")]
    programs = ("haproxy -v", "prometheus --version")
    lines = [run(["podman", "run", "--rm", "--entrypoint", "", names[0], *one.split()]).stdout for one in programs]
    return "; ".join(text.splitlines()[0].split("(")[0].strip() for text in lines)


def _up(stack: Stack) -> str:
    stack.up("server")
    return f"healthy after {stack.ready():.1f} s"


if __name__ == "__main__":
    sys.exit(main())
