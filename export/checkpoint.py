"""A Hugging Face checkpoint: a folder, or a hub id at a pinned revision."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from huggingface_hub import ModelCard, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from yaml import YAMLError

from engines.manifest import Ctc
from export.errors import CheckpointError, ExportError, UnsupportedError

# What an export reads of a hub repository: no TensorFlow or Flax weights, no other languages' adapters.
_CONFIGURATION = ("*.json", "*.txt", "*.model", "README.md")
_SAFE_WEIGHTS, _PICKLED_WEIGHTS = "model*.safetensors", "pytorch_model*.bin"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint on this machine, and where they came from."""

    folder: Path
    source: str
    revision: str | None
    target_lang: str | None = None

    @property
    def name(self) -> str:
        """The last part of the source: what an engine of it is called by default."""
        return self.source.rstrip("/").rsplit("/", 1)[-1]

    @cached_property
    def config(self) -> PreTrainedConfig:
        """config.json."""
        with _reading(self.folder / "config.json"):
            config: PreTrainedConfig = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        return config

    @property
    def architecture(self) -> str:
        """The transformers class that config.json names."""
        architectures = getattr(self.config, "architectures", None)
        if not architectures:
            raise CheckpointError(f'{self.folder / "config.json"} names no architecture: add "architectures": [...]')
        return str(architectures[0])

    @property
    def license(self) -> str | None:
        """The licence that the model card states."""
        card = self.folder / "README.md"
        if not card.is_file():
            return None
        try:
            stated = ModelCard.load(card, ignore_metadata_errors=True).data.to_dict().get("license")
        except (ValueError, YAMLError):  # a card that cannot be read states none
            return None
        return str(stated) if stated else None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the names and contents of the files that were exported, sorted by name."""
        total = hashlib.sha256()
        for path in self._files():
            with _reading(path), path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.name}\0{content}\n".encode())
        return total.hexdigest()

    def _files(self) -> list[Path]:
        adapters = sorted(self.folder.glob(f"adapter.{self.target_lang}.*")) if self.target_lang else []
        return sorted({*self.folder.glob("*.json"), *self._weights(), *adapters})

    def _weights(self) -> list[Path]:
        return sorted(self.folder.glob(_SAFE_WEIGHTS)) or sorted(self.folder.glob(_PICKLED_WEIGHTS))

    def feature_extractor(self) -> Any:
        """Load the feature extractor with the checkpoint's settings."""
        with _reading(f"{self.folder / 'preprocessor_config.json'}, which says how audio is prepared,"):
            return AutoFeatureExtractor.from_pretrained(self.folder, trust_remote_code=False)

    def model(self, architecture: str) -> PreTrainedModel:
        """Load the weights in fp32, with the adapter of `target_lang`, ready for inference."""
        model_class = getattr(transformers, architecture)
        transformers.utils.logging.disable_progress_bar()  # it would break into ours
        weights = ", ".join(path.name for path in self._weights()) or "model.safetensors"
        with _reading(f"{self.folder}: a {architecture} of config.json with the weights of {weights}"):
            model, report = model_class.from_pretrained(self.folder, dtype=torch.float32, output_loading_info=True)
        missing = sorted(key for key in report["missing_keys"] if not self._is_elsewhere(key))
        if missing:
            raise CheckpointError(f"{self.folder} lacks weights of {architecture}: {', '.join(missing[:5])}")
        if self.target_lang is not None:
            self._load_adapter(model)
        return model.float().eval()  # type: ignore[no-any-return]

    def _is_elsewhere(self, key: str) -> bool:
        """Whether a parameter comes from the language's adapter, or is of use in training only."""
        adapted = self.target_lang is not None and (".adapter_layer." in key or key.startswith("lm_head."))
        return adapted or key.endswith("masked_spec_embed")

    def _load_adapter(self, model: Any) -> None:
        """Put the language's attention adapters and head into `model`."""
        if getattr(model.config, "adapter_attn_dim", None) is None:
            raise UnsupportedError(f"{self.source} has no attention adapters, so it cannot take --target-lang")
        safe = self.folder / f"adapter.{self.target_lang}.safetensors"
        path = next((path for path in (safe, safe.with_suffix(".bin")) if path.is_file()), None)
        if path is None:
            there = sorted({p.name.split(".")[1] for p in self.folder.glob("adapter.*.*")})
            raise CheckpointError(f"{safe} is missing; languages there: {', '.join(there) or 'none'}")
        expected = {key for key in model.state_dict() if ".adapter_layer." in key or key.startswith("lm_head.")}
        with _reading(path):
            state = load_file(path) if path == safe else torch.load(path, map_location="cpu", weights_only=True)
            if set(state) != expected:
                odd = sorted(set(state) ^ expected)
                raise CheckpointError(f"{path} does not fit the model: {', '.join(odd[:5])}")
            size, width = state["lm_head.weight"].shape
            model.lm_head = torch.nn.Linear(width, size)
            model.config.vocab_size = size
            model.load_state_dict(state, strict=False)

    def ctc(self, vocabulary_size: int) -> Ctc:
        """Describe how ids become text, from the checkpoint's tokenizer."""
        with _reading(f"{self.folder}: the tokenizer (vocab.json, tokenizer_config.json)"):
            return self._ctc(AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False), vocabulary_size)

    def _ctc(self, tokenizer: Any, vocabulary_size: int) -> Ctc:
        if type(tokenizer).__name__ != "Wav2Vec2CTCTokenizer":
            raise UnsupportedError(f"{type(tokenizer).__name__} is not supported: only Wav2Vec2CTCTokenizer is")
        if any(isinstance(value, dict) for value in tokenizer.vocab.values()):
            if self.target_lang is None:
                languages = ", ".join(sorted(tokenizer.vocab))
                raise CheckpointError(
                    f"{self.source} has one vocabulary per language; choose --target-lang: {languages}"
                )
            tokenizer.set_target_lang(self.target_lang)
        blank = tokenizer.pad_token_id
        if blank is None or blank >= vocabulary_size:
            raise CheckpointError(
                f"{self.folder / 'tokenizer_config.json'}: the pad token {tokenizer.pad_token!r}, CTC's blank, "
                f"has the id {blank}, which is none of the {vocabulary_size} of the model"
            )
        vocabulary = tokenizer.convert_ids_to_tokens(list(range(vocabulary_size)))
        special = set(tokenizer.all_special_tokens) - {tokenizer.pad_token, tokenizer.word_delimiter_token}
        return Ctc(
            vocabulary=tuple(vocabulary),
            blank=blank,
            skipped=tuple(index for index, token in enumerate(vocabulary) if token in special),
            word_delimiter=tokenizer.word_delimiter_token,
            replace_word_delimiter=tokenizer.replace_word_delimiter_char,
            lowercase=bool(tokenizer.do_lower_case),
        )


def resolve(checkpoint: str, revision: str | None = None, target_lang: str | None = None) -> Checkpoint:
    """Find `checkpoint`: a folder, or a hub id that is downloaded to huggingface_hub's cache.

    Token, endpoint and offline mode are huggingface_hub's own (HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE). Raises
    CheckpointError.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"--revision is for hub ids; {checkpoint} is a folder")
        return Checkpoint(folder, folder.resolve().name, None, target_lang)
    if not _HUB_ID.fullmatch(checkpoint):
        raise CheckpointError(f"{checkpoint} is neither a folder nor a hub id")
    snapshot = _download(checkpoint, revision, target_lang)
    return Checkpoint(snapshot, checkpoint, snapshot.name, target_lang)


def _download(checkpoint: str, revision: str | None, target_lang: str | None) -> Path:
    wanted = [*_CONFIGURATION, *([f"adapter.{target_lang}.*"] if target_lang else [])]
    try:
        snapshot = Path(snapshot_download(checkpoint, revision=revision, allow_patterns=[*wanted, _SAFE_WEIGHTS]))
        if not any(snapshot.glob(_SAFE_WEIGHTS)):
            snapshot_download(checkpoint, revision=snapshot.name, allow_patterns=[_PICKLED_WEIGHTS])
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"{checkpoint} is neither a folder here nor a repository on the hub that this token may read "
            "(set HF_TOKEN for a private or gated one)"
        ) from None
    except LocalEntryNotFoundError:
        raise CheckpointError(
            f"{checkpoint} is no folder here, and the hub cannot be reached or HF_HUB_OFFLINE is set; "
            "it is not in the local cache either"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(f"{checkpoint} cannot be downloaded: {_beginning(error)}") from None
    return snapshot


@contextmanager
def _reading(what: str | Path) -> Iterator[None]:
    """Raise CheckpointError that names `what` for whatever the libraries raise about a malformed file."""
    try:
        yield
    except ExportError:
        raise
    except UnpicklingError:  # torch's own text advises to execute the file
        raise CheckpointError(
            f"{what} cannot be read: it is damaged, or holds more than tensors, which is never executed"
        ) from None
    except Exception as error:  # transformers raises AttributeError, TypeError, KeyError and others of its own
        raise CheckpointError(f"{what} cannot be read: {_beginning(error)}") from None


def _beginning(error: Exception) -> str:
    words = str(error).split("\n\n")[0].split()  # some say in the second line what is wrong
    return " ".join(words)[:300] or type(error).__name__
