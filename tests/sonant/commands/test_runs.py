"""The commands that work on files, in this process: one of its own takes a second, and is for how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sonant.cli import main
from tests.server.process import free_port, noise, serving, wav

AUDIO = Path(__file__).parents[3] / "demo/audio"
CTC = "--model=hubert-ctc-english"
# For all files of a test, on a busy machine.
SECONDS = 120


def command(task: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sonant.cli", task, "--quiet", *map(str, arguments)]


def sonant(task: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[Any]:
    return subprocess.run(command(task, *arguments), capture_output=True, timeout=SECONDS, **{"text": True} | options)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Inside = Callable[..., Done]


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Inside:
    """Runs the command in this process."""

    def run(task: str, *arguments: str | Path) -> Done:
        status = main([task, "--quiet", *map(str, arguments)])
        return Done(status, *capsys.readouterr())

    return run


def items(text: str) -> dict[str, dict[str, Any]]:
    """Return lines of JSON by path, each of which stands there once."""
    found = [json.loads(line) for line in text.splitlines()]
    assert len({one["path"] for one in found}) == len(found)
    return {one.pop("path"): one for one in found}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> list[str]:
    """The engines in this process, as nobody has calibrated them."""
    return [f"--models={demo_models}", "--threads=1", f"--cache={tmp_path_factory.mktemp('cache')}"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, and bad files among them."""
    folder = tmp_path_factory.mktemp("mixed")
    for path in sorted(AUDIO.glob("*.flac"))[:6]:
        shutil.copy(path, folder)
    (folder / "sub").mkdir()
    shutil.copy(AUDIO / "words/yes.flac", folder / "sub/yes.flac")
    (folder / "sub/text.wav").write_text("dear diary")
    (folder / "empty.wav").touch()
    (folder / "short.wav").write_bytes(wav(noise(0.001)))
    return folder


@pytest.fixture(scope="module")
def transcribed(here: list[str], mixed: Path) -> subprocess.CompletedProcess[str]:
    return sonant("transcribe", mixed, CTC, *here)


@pytest.fixture(scope="module")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 files that take an engine a second."""
    folder = tmp_path_factory.mktemp("fifty")
    for index in range(50):
        (folder / f"{index:02}.wav").write_bytes(wav(noise(2 + index / 25, seed=index), subtype="PCM_16"))
    return folder


def test_each_file_is_a_line_and_one_bad_file_stops_nothing(
    transcribed: subprocess.CompletedProcess[str], mixed: Path
) -> None:
    assert transcribed.returncode == 1
    found = items(transcribed.stdout)
    assert len(found) == 10
    bad = {Path(path).name: one["error"]["code"] for path, one in found.items() if "error" in one}
    assert bad == {"text.wav": "audio_undecodable", "empty.wav": "audio_empty", "short.wav": "audio_too_short"}
    right = 0
    for path in mixed.glob("*.flac"):
        one = found[str(path)]
        assert set(one) == {"text", "confidence", "duration", "windows"}
        right += one["text"] == (AUDIO / path.name).with_suffix(".txt").read_text().strip()
    assert right > 3
    *errors, end = transcribed.stderr.splitlines()
    assert len(errors) == 3
    assert any(line.startswith(f"sonant: {mixed}/empty.wav: ") and line.endswith("(audio_empty)") for line in errors)
    assert end.startswith("sonant: 7 of 10 files done, 3 failed; ")


def test_a_server_gives_the_same(
    transcribed: subprocess.CompletedProcess[str], mixed: Path, demo_server: str, tmp_path: Path, inside: Inside
) -> None:
    done = inside("transcribe", mixed, CTC, f"--url={demo_server}", f"--output={tmp_path / 'x.jsonl'}")
    assert done.returncode == 1, done.stderr
    remote, local = items((tmp_path / "x.jsonl").read_text()), items(transcribed.stdout)
    assert remote.keys() == local.keys()
    for path, one in local.items():
        if "error" in one:
            assert remote[path]["error"]["code"] == one["error"]["code"]
        else:
            assert remote[path].pop("confidence") == pytest.approx(one.pop("confidence"), rel=1e-4)
            assert remote[path] == one


@pytest.mark.parametrize("by_server", [False, True])
def test_subtitles_in_the_tree_of_the_inputs(
    here: list[str], demo_server: str, mixed: Path, tmp_path: Path, inside: Inside, by_server: bool
) -> None:
    where = [f"--url={demo_server}"] if by_server else here
    arguments: list[str | Path] = [mixed, CTC, f"--output={tmp_path}", "--response-format=srt", *where]
    done = inside("transcribe", *arguments)
    assert done.returncode == 1, done.stderr
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.srt")}
    assert written == {str(path.relative_to(mixed).with_suffix(".srt")) for path in mixed.rglob("*.flac")}
    for path in written - {"sub/yes.srt"}:
        first, times, text = (tmp_path / path).read_text().splitlines()[:3]
        assert (first, " --> " in times, bool(text)) == ("1", True, True)
    assert len((tmp_path / "errors.jsonl").read_text().splitlines()) == 3
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.srt")}
    again = inside("transcribe", *arguments)
    assert "0 of 10 files done, 7 were done before, 3 failed" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.srt")} == before


def test_one_file_becomes_one_file_of_the_format_that_its_name_says(
    here: list[str], tmp_path: Path, inside: Inside
) -> None:
    path = AUDIO / "switch-lamp-garage.flac"
    text = path.with_suffix(".txt").read_text()
    done = inside("transcribe", path, CTC, f"--output={tmp_path / 'x.txt'}", *here)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.txt").read_text() == text
    with path.open("rb") as file:
        piped = sonant("transcribe", "-", CTC, "--response-format=text", *here, stdin=file)
    assert (piped.returncode, piped.stdout) == (0, text)


def test_vectors_are_those_of_the_server(
    here: list[str], demo_server: str, mixed: Path, tmp_path: Path, inside: Inside
) -> None:
    options = [CTC, "--pooling=mean", "--layer=1", "--layer=2"]
    done = inside("encode", mixed, *options, f"--output={tmp_path}", *here)
    assert done.returncode == 1, done.stderr
    one = np.load(tmp_path / "sub/yes.npz")
    assert set(one.files) == {"layer1", "layer2", "duration"}
    joined = inside(
        "encode", mixed, *options, f"--output={tmp_path / 'all.safetensors'}", "--format=safetensors", *here
    )
    assert joined.returncode == 1, joined.stderr
    asked = inside("encode", mixed, *options, f"--output={tmp_path / 'all.npz'}", f"--url={demo_server}")
    assert asked.returncode == 1, asked.stderr
    local, remote = load_file(tmp_path / "all.safetensors"), np.load(tmp_path / "all.npz")
    assert set(local) == set(remote.files)
    assert len(local) == 2 * 7
    np.testing.assert_allclose(local["sub/yes.flac.layer1"], one["layer1"], rtol=1e-4, atol=1e-5)
    for name, values in local.items():
        np.testing.assert_allclose(remote[name], values, rtol=1e-4, atol=1e-5)


def test_a_name_that_is_not_utf_8(here: list[str], tmp_path: Path, inside: Inside) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(AUDIO / "words/yes.flac", folder / os.fsdecode(b"b\xff.flac"))
    shutil.copy(AUDIO / "words/no.flac", folder)
    for name in ("all.npz", "all.safetensors"):
        kind = f"--format={name.partition('.')[2]}"
        done = inside("encode", folder, CTC, "--pooling=mean", f"--output={tmp_path / name}", kind, *here)
        assert done.returncode == 0, done.stderr
    assert set(np.load(tmp_path / "all.npz").files) == set(load_file(tmp_path / "all.safetensors"))
    assert set(np.load(tmp_path / "all.npz").files) == {"b\\xff.flac", "no.flac"}
    lines = inside("classify", folder, "--top-k=1", *here)
    assert {Path(path).name for path in items(lines.stdout)} == {"b\\xff.flac", "no.flac"}


def test_labels_beside_the_files(here: list[str], tmp_path: Path, inside: Inside) -> None:
    for name in ("yes", "no", "stop"):
        shutil.copy(AUDIO / f"words/{name}.flac", tmp_path)
    done = inside("classify", tmp_path / "*.flac", "--top-k=2", "--beside", *here)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "yes.json").read_text())
    assert (found["labels"][0]["label"], len(found["labels"]), found["windows"]) == ("yes", 2, 1)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".flac"] * 3 + [".json"] * 3


@contextmanager
def begun(output: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start a run, and wait until something of it is done."""
    run = command("transcribe", *arguments, f"--output={output}")
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            end = time.monotonic() + SECONDS
            while not (output.exists() and output.stat().st_size):
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.005)
            yield process
        finally:
            process.kill()


def test_a_run_that_was_killed_goes_on(here: list[str], fifty: Path, tmp_path: Path, inside: Inside) -> None:
    output = tmp_path / "x.jsonl"
    with begun(output, fifty, CTC, *here) as process:
        process.kill()
        process.wait()
    whole = output.read_text().rpartition("\n")[0].splitlines()
    assert 0 < len(whole) < 50
    with output.open("a") as file:  # as if it had been killed while it wrote
        file.write('{"path":"')
    done = inside("transcribe", fifty, CTC, f"--output={output}", *here)
    assert done.returncode == 0, done.stderr
    assert f"{50 - len(whole)} of 50 files done, {len(whole)} were done before; " in done.stderr
    assert output.read_text().splitlines()[: len(whole)] == whole
    assert set(items(output.read_text())) == {str(path) for path in fifty.iterdir()}


def test_a_run_that_was_stopped_says_so_and_goes_on(
    here: list[str], fifty: Path, tmp_path: Path, inside: Inside
) -> None:
    output = tmp_path / "x.jsonl"
    with begun(output, fifty, CTC, *here) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "sonant: stopped: the same command goes on where it was"
    assert 0 < len(items(output.read_text())) < 50
    other = inside("transcribe", fifty, CTC, "--timestamps=word", f"--output={output}", *here)
    assert other.returncode == 2
    assert "name another --output" in other.stderr
    assert inside("transcribe", fifty, CTC, f"--output={output}", *here).returncode == 0
    assert len(items(output.read_text())) == 50


def test_nobody_who_reads_ends_it_quietly(here: list[str], fifty: Path) -> None:
    run = command("transcribe", fifty, CTC, *here)
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(SECONDS) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transcribe", "/nowhere.wav"], "there is no file or folder /nowhere.wav"),
        (["classify", "."], "there is no audio in ."),
        (["transcribe", "x.wav", "--beams", "0"], "--beams: Input should be greater than 0"),
        (["encode", "x.wav", "--output", "a", "--beside"], "without --output"),
        (["encode", "x.wav", "--output", "a.npz", "--times"], "--times is of JSON"),
        (["encode", "x.wav", "--times", "--pooling", "mean"], "--times are of frames"),
        (["transcribe", "x.wav", "--model", "no/engine"], "no/engine is not an engine"),
        (["transcribe", "x.wav", "--threads", "1", "--url", "http://there"], "--threads is of this process"),
        (["transcribe", "x.wav", "--url", "there"], "--url: 'there' is not an address"),
        (["transcribe", "x.wav", "--models", "/nowhere"], "name one that holds engines with --models"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_done(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "x.wav" in arguments:
        (tmp_path / "x.wav").touch()
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ("classify", "hubert-ctc-english", "does not serve classify, only encode, transcribe"),
        ("encode", "nobody", "there is no model 'nobody'; there are: hubert-ctc-english, sew-commands-english"),
        ("encode", None, "encode has no default model: set 'model' to one of hubert-ctc-english"),
    ],
)
def test_an_engine_that_cannot_is_said(
    task: str, model: str | None, message: str, here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([task, str(AUDIO / "words"), *here, *([f"--model={model}"] if model else [])]) == 2
    assert message in capsys.readouterr().err


def test_an_option_that_the_engine_cannot_honour_is_said(here: list[str], inside: Inside) -> None:
    done = inside("transcribe", AUDIO / "words", CTC, "--max-tokens=3", *here)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'max_tokens' is not supported by this model" in done.stderr


def test_an_unknown_option_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["transcribe", ".", "--beam", "3"])
    assert caught.value.code == 2
    assert "--beam" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_said() -> None:
    done = sonant("transcribe", AUDIO / "words", f"--url=http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "is the server there, at --url?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_wants_a_key(demo_models: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also: a variable for the client is none of the server's settings."""
    sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
    with serving(demo_models, api_keys=json.dumps({"me": sha256}), api_key="secret") as server:
        url = f"--url=http://127.0.0.1:{server.port}"
        path = AUDIO / "words/yes.flac"
        for key in (None, "wrong"):
            if key is not None:
                monkeypatch.setenv("SONANT_API_KEY", key)
            done = inside("classify", path, url)
            assert done.returncode == 2
            assert "set SONANT_API_KEY to a key of the server" in done.stderr
        monkeypatch.setenv("SONANT_API_KEY", "secret")
        right = inside("classify", path, url)
        assert right.returncode == 0, right.stderr
        [one] = items(right.stdout).values()
        assert one["labels"][0]["label"] == "yes"
