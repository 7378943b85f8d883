"""The Hugging Face hub: the files of a repository at one commit, in huggingface_hub's cache.

Token, endpoint, cache, timeouts and offline mode are huggingface_hub's own: HF_TOKEN, HF_ENDPOINT, HF_HOME,
HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_OFFLINE. When the hub does not answer, what is in the cache is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from engines.digest import sha256
from export.errors import CheckpointError, ExportError
from export.weights import is_weights

# What is read of any checkpoint. Subfolders hold other models, and logs.
_CONFIGURATION = ("*.json", "*.txt", "*.model", "README.md")
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# What a status says is wrong, and what to do next.
_STATUSES = {
    401: "does not know the token: set HF_TOKEN to a valid one, or unset it (`hf auth whoami` tells whose it is)",
    403: "forbids this token to read it: give the token that permission, or set HF_TOKEN to another",
    429: "had too many requests: try again in some minutes, with HF_TOKEN set",
}


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit.

    `folder` is where its files come to lie. `files` are those of its top folder, with the SHA-256 of large ones; where
    the hub does not answer, those in the cache, and `complete` is false.
    """

    repository: str
    folder: Path
    files: Mapping[str, str | None]
    complete: bool

    @property
    def commit(self) -> str:
        """The commit that was found at the revision."""
        return self.folder.name

    def fetch(self, names: Iterable[str]) -> None:
        """Download those of the files `names` that are not in the cache; CheckpointError where one cannot be had."""
        names = list(names)
        missing = [name for name in names if name not in self.files]
        if missing and self.complete:
            raise CheckpointError(
                f"{self.repository} has no {missing[0]} at {self.commit}: it is not complete, or not in the format "
                "that transformers writes; choose another --revision, or ask its owner"
            )
        for name in names:
            with _explained(self.repository, self.commit, f"{self.repository}: {name} at {self.commit}"):
                self._fetch(name)

    def _fetch(self, name: str) -> None:
        if (self.folder / name).is_file():
            return
        path = Path(hf_hub_download(self.repository, name, revision=self.commit))
        expected = self.files.get(name)
        # huggingface_hub compares only sizes, and an engine of damaged weights would pass every check of its own.
        if expected is not None and sha256(path) != expected:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise CheckpointError(
                f"{self.repository}: {name} arrived damaged (its SHA-256 is not {expected}) and was removed; "
                "run the command again"
            )


def is_id(text: str) -> bool:
    """Whether `text` has the form of a hub id, NAME or OWNER/NAME."""
    return _ID.fullmatch(text) is not None


def download(repository: str, revision: str | None = None, target_lang: str | None = None) -> Snapshot:
    """Download the configuration of `repository` at a branch, tag or commit, and the adapter of `target_lang`.

    The weights come with `Snapshot.fetch`, when the configuration has proved worth it. Raises CheckpointError.
    """
    revision = revision or constants.DEFAULT_REVISION
    with _explained(repository, revision, f"{repository} is no folder here; its config.json at {revision}"):
        config = hf_hub_download(repository, "config.json", revision=revision)
    snapshot = _snapshot(repository, Path(config).parent)
    wanted = [name for name in snapshot.files if any(fnmatchcase(name, pattern) for pattern in _CONFIGURATION)]
    adapters = [f"adapter.{target_lang}.safetensors", f"adapter.{target_lang}.bin"] if target_lang else []
    there = [name for name in adapters if name in snapshot.files]
    if not snapshot.complete:  # then it may exist at the hub; else `Checkpoint` says which languages there are
        there = there or adapters
    snapshot.fetch([*wanted, *there[:1]])
    return snapshot


def _snapshot(repository: str, folder: Path) -> Snapshot:
    """List the files; those in the cache where the hub does not answer and the weights, which come last, are there."""
    commit, timeout = folder.name, constants.HF_HUB_DOWNLOAD_TIMEOUT
    with _explained(repository, commit, f"{repository}: the list of files at {commit}"):
        try:
            info = HfApi().model_info(repository, revision=commit, files_metadata=True, timeout=timeout)
        except Exception:
            names = [path.name for path in folder.iterdir()]
            if not any(is_weights(name) for name in names):
                raise
            return Snapshot(repository, folder, dict.fromkeys(names), complete=False)
        files = {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings or ()}
        return Snapshot(repository, folder, {name: files[name] for name in files if "/" not in name}, complete=True)


@contextmanager
def _explained(repository: str, revision: str, what: str) -> Iterator[None]:
    """Raise CheckpointError that says what to do next for whatever keeps `what` from being downloaded.

    No text of a server becomes part of it: a server may repeat the token.
    """
    hub = urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2]
    try:
        yield
    except ExportError:
        raise
    except GatedRepoError:  # a RepositoryNotFoundError too
        raise CheckpointError(
            f"{repository} is gated: ask for access on its page at {hub}, then set HF_TOKEN to a token of the account "
            "that has it"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"{repository} is neither a folder here nor a repository at {hub} that this token may read "
            "(set HF_TOKEN for a private or gated one)"
        ) from None
    except RevisionNotFoundError:
        raise CheckpointError(
            f"{repository} has no revision {revision}: choose a branch, tag or commit of it with --revision"
        ) from None
    except HFValidationError:
        raise CheckpointError(f"{repository} is neither a folder here nor a hub id, OWNER/NAME") from None
    except Exception as error:  # httpx's errors too, which huggingface_hub lets through
        raise CheckpointError(_explanation(error, what, hub)) from None


def _explanation(error: Exception, what: str, hub: str) -> str:
    """Say why `what` cannot be had from `hub`, and what to do."""
    if isinstance(error, LocalEntryNotFoundError):  # neither here nor there: the cause says why not there
        what = f"{what} is not in the local cache"
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(error, OfflineModeIsEnabled):
        return f"{what}, and HF_HUB_OFFLINE is set: unset it to download"
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{what} does not exist: choose another --revision, or ask its owner"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return f"{what}: {hub} {_STATUSES.get(status, f'answers with status {status}: try again later')}"
    if isinstance(error, FileMetadataError):
        return f"{what}: {hub} does not answer as a model hub does: see HF_ENDPOINT, and the proxy if there is one"
    if isinstance(error, OSError) and error.errno:
        return f"{what}: it cannot be stored ({error}): make room, or set HF_HOME to a folder that you may write to"
    said = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}" if str(error) else type(error).__name__
    return (
        f"{what}: it cannot be downloaded from {hub} ({said}); see that it can be reached, then run the command again: "
        "complete files are kept. HF_HUB_DOWNLOAD_TIMEOUT sets how many seconds to wait for an answer"
    )
