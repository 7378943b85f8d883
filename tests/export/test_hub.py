"""Checkpoints from a hub: what is downloaded, at which commit, and what is said when it does not work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http
from transformers import HubertModel

from export import families
from export.checkpoint import resolve
from export.errors import CheckpointError, UnsupportedError
from tests.hub import LIST, Fault, Hub, Repository, serving
from tests.support import make_checkpoint, noise

NAME, TOKEN = "someone/speech", "hf_kept_from_all_the_world"
FILES = {
    "config.json": b'{"model_type": "hubert", "architectures": ["HubertModel"]}',
    "preprocessor_config.json": b"{}",
    "README.md": b"# Speech",
    "model.safetensors": bytes(range(256)) * 40,
}
SHARDS = {f"model-0000{i}-of-00003.safetensors": bytes([i]) * 1000 for i in (1, 2, 3)}
INDEX = {
    "model.text.weight": "model-00001-of-00003.safetensors",
    "model.audio.0.weight": "model-00002-of-00003.safetensors",
    "model.audio.1.weight": "model-00003-of-00003.safetensors",
    "model.audio.1.bias": "model-00003-of-00003.safetensors",
}
CONFIGURATION = {name: FILES[name] for name in ("config.json", "preprocessor_config.json", "README.md")}
SHARDED = CONFIGURATION | SHARDS | {"model.safetensors.index.json": json.dumps({"weight_map": INDEX}).encode()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and this process as a user of it with an empty cache and no token."""
    with serving() as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        settings = {"ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}
        settings |= {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_TOKEN_PATH": str(tmp_path / "token")}
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        for module in (file_download, _http):  # which wait longer and longer between their attempts
            monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        close_session()
        yield hub
        close_session()


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: Hub) -> None:
    first = hub.add(NAME, FILES)
    repository = hub.repositories[NAME]
    second = repository.commit(FILES | {"preprocessor_config.json": b"[]"}, "better/one")
    repository.refs["v1"] = first
    for revision, commit in ((None, first), ("main", first), ("v1", first), (first, first), ("better/one", second)):
        checkpoint = resolve(NAME, revision)
        assert (checkpoint.source, checkpoint.name, checkpoint.revision) == (NAME, "speech", commit)
        content = (checkpoint.folder / "preprocessor_config.json").read_bytes()
        assert content == repository.commits[commit]["preprocessor_config.json"]


def test_a_branch_that_moved_gives_its_new_content(hub: Hub) -> None:
    first = hub.add(NAME, FILES)
    assert resolve(NAME).revision == first
    hub.downloads()
    second = hub.repositories[NAME].commit(FILES | {"model.safetensors": b"better"})
    checkpoint = resolve(NAME)
    assert checkpoint.revision == second
    assert [path.read_bytes() for path in checkpoint.weights()] == [b"better"]
    assert hub.downloads() == ["model.safetensors"]  # what did not change is there
    assert resolve(NAME, first).weights()[0].read_bytes() == FILES["model.safetensors"]


def test_only_what_is_read_is_downloaded(hub: Hub) -> None:
    others = ("tf_model.h5", "flax_model.msgpack", "pytorch_model.bin", "model.fp16.safetensors", "eval.py")
    folders = ("onnx/config.json", "language_model/unigrams.txt", "checkpoint-100/model.safetensors")
    adapters = ("adapter.deu.safetensors", "adapter.deu.bin", "adapter.eng.safetensors")
    hub.add(NAME, FILES | {name: name.encode() for name in (*others, *folders, *adapters)})
    checkpoint = resolve(NAME, target_lang="deu")
    assert hub.downloads() == ["README.md", "adapter.deu.safetensors", "config.json", "preprocessor_config.json"]
    assert names(checkpoint.weights()) == ["model.safetensors"]
    assert hub.downloads() == ["model.safetensors"]
    assert names(resolve(NAME, target_lang="deu").weights()) == ["model.safetensors"]
    assert hub.downloads() == []  # all of it is in the cache


@pytest.mark.parametrize("sharded", [False, True])
def test_pickles_are_downloaded_where_there_is_nothing_else(hub: Hub, sharded: bool) -> None:
    index = json.dumps({"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}).encode()
    pickles = {"pytorch_model-00001-of-00001.bin": b"pickle", "pytorch_model.bin.index.json": index}
    hub.add(NAME, CONFIGURATION | (pickles if sharded else {"pytorch_model.bin": b"pickle"}))
    weights = names(resolve(NAME).weights())
    assert weights == ["pytorch_model-00001-of-00001.bin" if sharded else "pytorch_model.bin"]
    assert weights[0] in hub.downloads()


def test_what_is_refused_costs_no_weights(hub: Hub) -> None:
    hub.add(NAME, FILES | {"config.json": b'{"model_type": "bert", "architectures": ["BertModel"]}'})
    with pytest.raises(UnsupportedError, match="'bert'"):
        families.build(resolve(NAME))
    assert "model.safetensors" not in hub.downloads()


def test_of_a_part_of_a_model_only_its_shards_are_downloaded(hub: Hub) -> None:
    hub.add(NAME, SHARDED)
    checkpoint = resolve(NAME)
    assert not set(SHARDS) & set(hub.downloads())
    assert names(checkpoint.weights(lambda name: name.startswith("model.audio.1."))) == [*SHARDS][2:]
    assert hub.downloads() == [*SHARDS][2:]
    one = checkpoint.sha256
    assert hub.downloads() == []  # the hash is that of what was read
    assert names(resolve(NAME).weights()) == [*SHARDS]
    assert hub.downloads() == [*SHARDS][:2]
    assert resolve(NAME).sha256 != one
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json names none of the tensors"):
        checkpoint.weights(lambda name: name.startswith("vision."))


def test_shards_make_the_same_model(hub: Hub, tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path / "speech", num_hidden_layers=1)
    shards = make_checkpoint(tmp_path / "shards", num_hidden_layers=1)
    (shards / "model.safetensors").unlink()
    HubertModel.from_pretrained(whole).save_pretrained(shards, max_shard_size="20KB")
    hub.add(NAME, shards)
    waveform, lengths = torch.from_numpy(noise(8000))[None], torch.tensor([8000])
    with torch.inference_mode():
        expected, got = (families.build(resolve(c)).module(waveform, lengths) for c in (str(whole), NAME))
    assert len(list(shards.glob("*.safetensors"))) > 2
    assert all(map(torch.equal, expected, got))
    assert resolve(NAME).sha256 == resolve(str(shards)).sha256


def test_a_missing_shard_is_named_before_any_is_downloaded(hub: Hub) -> None:
    hub.add(NAME, {name: content for name, content in SHARDED.items() if "00002" not in name})
    checkpoint = resolve(NAME)
    with pytest.raises(CheckpointError, match=r"has no model-00002-of-00003\.safetensors at .*--revision"):
        checkpoint.weights()
    assert not set(SHARDS) & set(hub.downloads())


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"config\.json at main does not exist.*--revision"),
        ("preprocessor_config.json", r"preprocessor_config\.json, which says how audio is prepared"),
        ("model.safetensors", r"has no model\.safetensors at .*--revision"),
        ("vocab.json", "the tokenizer"),
    ],
)
def test_a_missing_file_is_named(hub: Hub, tmp_path: Path, missing: str, message: str) -> None:
    folder = make_checkpoint(tmp_path / "speech", "HubertForCTC", num_hidden_layers=1)
    (folder / missing).unlink()
    if missing == "vocab.json":
        (folder / "tokenizer_config.json").unlink()
    hub.add(NAME, folder)
    with pytest.raises(CheckpointError, match=message):
        families.build(resolve(NAME))


def test_a_missing_language_is_answered_with_those_that_there_are(hub: Hub, tmp_path: Path) -> None:
    adapted: dict[str, Any] = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "adapter_attn_dim": 6}
    folder = make_checkpoint(tmp_path / "speech", "HubertForCTC", num_hidden_layers=1, **adapted)
    for language in ("deu", "eng"):
        (folder / f"adapter.{language}.safetensors").write_bytes(b"")
    hub.add(NAME, folder)
    with pytest.raises(CheckpointError, match=r"adapter\.fra\.safetensors is missing; languages there: deu, eng"):
        families.build(resolve(NAME, target_lang="fra"))


def test_what_does_not_exist_is_said(hub: Hub) -> None:
    hub.add(NAME, FILES)
    with pytest.raises(CheckpointError, match=r"someone/else is neither a folder here nor a repository .*HF_TOKEN"):
        resolve("someone/else")
    for revision in ("v9", "0" * 40):
        with pytest.raises(CheckpointError, match=f"no revision {revision}.*--revision"):
            resolve(NAME, revision)
    with pytest.raises(CheckpointError, match="nor a hub id"):
        resolve("someone--else/speech")


def test_a_private_repository_needs_its_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES, Repository(private=True, readers=frozenset({TOKEN})))
    hub.tokens.add("hf_of_another")
    for token in (None, "hf_of_another"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(CheckpointError, match=r"nor a repository .* that this token may read.*HF_TOKEN") as caught:
            resolve(NAME)
        assert str(token) not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    with pytest.raises(CheckpointError, match=r"does not know the token: set HF_TOKEN") as caught:
        resolve(NAME)
    assert "hf_unknown" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.requests.clear()
    assert resolve(NAME).weights()[0].read_bytes() == FILES["model.safetensors"]
    # The storage is not the hub: it gets no token.
    assert {request.token for request in hub.requests if request.path.startswith("/lfs/")} == {None}
    assert {request.token for request in hub.requests if not request.path.startswith("/lfs/")} == {TOKEN}


def test_a_gated_repository_says_how_to_get_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES, Repository(gated=True, readers=frozenset({TOKEN})))
    hub.tokens.add("hf_of_another")
    for token in ("", "hf_of_another"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(CheckpointError, match=r"is gated: ask for access.*HF_TOKEN"):
            resolve(NAME)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert resolve(NAME).weights()


def test_without_the_hub_the_cache_is_used(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add(NAME, SHARDED)
    checkpoint = resolve(NAME)
    checkpoint.weights(lambda name: ".audio." in name)
    hub.close()
    close_session()  # as in another process
    for offline in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        for revision in (None, "main", commit):
            again = resolve(NAME, revision)
            assert (again.revision, names(again.weights(lambda name: ".audio." in name))) == (commit, [*SHARDS][1:])
            assert again.sha256 == checkpoint.sha256
        advice = "HF_HUB_OFFLINE is set: unset it" if offline else "see that it can be reached"
        with pytest.raises(
            CheckpointError, match=rf"00001-of-00003.safetensors at .* not in the local cache.*{advice}"
        ):
            again.weights()
    with pytest.raises(CheckpointError, match=rf"adapter\.deu\.safetensors at .*{advice}"):
        resolve(NAME, target_lang="deu")
    with pytest.raises(CheckpointError, match=rf"someone/else is no folder here; its config.*{advice}"):
        resolve("someone/else")


def test_a_cache_without_weights_is_not_taken_for_a_repository_without(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES)
    resolve(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"the list of files at .*HF_HUB_OFFLINE is set"):
        resolve(NAME)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is kept are whole ones
    hub.add(NAME, FILES)
    hub.faults["model.safetensors"] = Fault(cut_after=4000, times=2)
    assert resolve(NAME).weights()[0].read_bytes() == FILES["model.safetensors"]
    ranges = [request.range for request in hub.requests if request.path.startswith("/lfs/")]
    assert ranges == [None, "bytes=4000-", "bytes=8000-"]


def test_after_a_hub_that_died_the_next_run_goes_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, SHARDED)
    hub.faults[[*SHARDS][1]] = Fault(cut_after=500, closes=True)
    with pytest.raises(CheckpointError, match=r"model-00002.* cannot be downloaded .*run the command again"):
        resolve(NAME).weights()
    with serving() as risen:
        risen.repositories = hub.repositories
        monkeypatch.setattr(constants, "ENDPOINT", risen.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.url, risen.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        assert [path.read_bytes() for path in resolve(NAME).weights()] == [*SHARDS.values()]
        assert risen.downloads() == [*SHARDS][1:]


BROKEN, BUSY = "answers with status 500: try again later", "had too many requests: try again"
SILENT = r"ReadTimeout.*run the command again.*HF_HUB_DOWNLOAD_TIMEOUT"


@pytest.mark.parametrize(
    ("name", "fault", "message"),
    [
        ("config.json", Fault("HEAD", status=500), BROKEN),
        ("config.json", Fault("HEAD", hangs=True), SILENT),
        ("config.json", Fault("HEAD", status=200), "does not answer as a model hub does: see HF_ENDPOINT"),
        ("config.json", Fault(status=403), "forbids this token to read it"),
        (LIST, Fault(status=500), BROKEN),
        (LIST, Fault(hangs=True), SILENT),
        ("README.md", Fault("HEAD", status=429), BUSY),
        ("model.safetensors", Fault(status=500), BROKEN),
        ("model.safetensors", Fault(hangs=True), SILENT),
    ],
)
def test_a_hub_that_fails_is_answered_with_what_to_do(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str, fault: Fault, message: str
) -> None:
    hub.add(NAME, FILES)
    hub.faults[name] = replace(fault)
    if fault.hangs:
        for setting in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
            monkeypatch.setattr(constants, setting, 0.1)
        monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", 0.1)
    with pytest.raises(CheckpointError, match=message) as caught:
        resolve(NAME).weights()
    assert f"{name} at" in str(caught.value)
    assert "broken" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FILES["model.safetensors"][:5000], r"should be of size 10240 but has size 5000.*run the command again"),
        (FILES["model.safetensors"] + b"more", r"should be of size 10240 but has size 10244.*run the command again"),
        (FILES["model.safetensors"][::-1], r"model.safetensors arrived damaged \(its SHA-256.*run the command again"),
    ],
)
def test_damaged_content_is_never_kept(hub: Hub, content: bytes, message: str) -> None:
    hub.add(NAME, FILES)
    hub.faults["model.safetensors"] = Fault(content=content, times=1)
    with pytest.raises(CheckpointError, match=message):
        resolve(NAME).weights()
    assert resolve(NAME).weights()[0].read_bytes() == FILES["model.safetensors"]


def test_a_cache_that_cannot_be_written_is_said(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(CheckpointError, match=r"cannot be stored .*HF_HOME"):
        resolve(NAME)


def run(hub: Hub, home: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user of `hub` whose HF_HOME is `home`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_"))}
    kept |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1,localhost"}
    kept["PYTHONPATH"] = str(Path(__file__).parents[2])
    arguments = [sys.executable, *command]
    return subprocess.run(arguments, env=kept | environment, cwd=home, capture_output=True, text=True, timeout=300)


def test_an_export_from_a_private_hub(tmp_path: Path) -> None:
    """As a user does it: the console command, its environment, another commit on main, shards, then no hub at all."""
    folder = make_checkpoint(tmp_path / "speech", num_hidden_layers=1)
    HubertModel.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    for path in (tmp_path / "shards").glob("model*"):
        path.rename(folder / path.name)
    command = ("-m", "sonant.cli", "export", NAME, "--revision", "v1", "--max-seconds", "5", "--output", "engine")
    with serving() as hub:
        commit = hub.add(NAME, folder, Repository(private=True, readers=frozenset({TOKEN})))
        hub.repositories[NAME].refs["v1"] = commit
        hub.repositories[NAME].commit({"config.json": b"something else"})
        done = run(hub, tmp_path, *command, HF_TOKEN=TOKEN)
        assert done.returncode == 0, done.stderr
        asked = hub.downloads()
    assert sorted(set(asked)) == asked  # nothing twice, and transformers asks for nothing more
    assert set(asked) == {path.name for path in folder.iterdir()}
    manifest = (tmp_path / "engine" / "engine.json").read_text()
    assert json.loads(manifest)["checkpoint"] | {"sha256": ""} == {
        "source": NAME,
        "revision": commit,
        "sha256": "",
        "architecture": "HubertModel",
        "license": None,
    }
    assert TOKEN not in manifest + done.stdout + done.stderr
    code = f"from export.hub import download; s = download({NAME!r}, 'v1'); s.fetch(s.files); print(s.commit)"
    offline = run(hub, tmp_path, "-c", code, HF_HUB_OFFLINE="1")
    assert offline.stdout.strip() == commit, offline.stderr
