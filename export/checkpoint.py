"""A Hugging Face checkpoint: a folder, or a hub id at a pinned revision."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from yaml import YAMLError

from engines import digest
from engines.manifest import Ctc
from export import hub
from export.errors import CheckpointError, ExportError, UnsupportedError
from export.extract import Part
from export.weights import Wanted, weight_files


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint on this machine, and where they came from.

    Of a hub repository, `snapshot`, the weights are downloaded when they are first asked for.
    """

    folder: Path
    source: str
    revision: str | None
    target_lang: str | None = None
    snapshot: hub.Snapshot | None = None
    _read: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

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
        """SHA-256 over the names and contents of the files that were exported, sorted by name.

        Of the weights they are those that `weights` has returned so far, or all where it was not called.
        """
        total = hashlib.sha256()
        for path in self._files():
            with _reading(path):
                content = digest.sha256(path)
            total.update(f"{path.name}\0{content}\n".encode())
        return total.hexdigest()

    def _files(self) -> list[Path]:
        adapters = sorted(self.folder.glob(f"adapter.{self.target_lang}.*")) if self.target_lang else []
        return sorted({*self.folder.glob("*.json"), *(self._read or self.weights()), *adapters})

    def weights(self, wanted: Wanted | None = None) -> list[Path]:
        """Return the files of the weights, whole or in shards; of shards those with a tensor whose name is `wanted`.

        Only these are downloaded. Raises CheckpointError where one is missing, before any is downloaded.
        """
        names = weight_files(self.folder, self._names(), wanted)
        paths = [self.folder / name for name in names]
        if self.snapshot is not None:
            self.snapshot.fetch(names)
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise CheckpointError(f"{missing[0]} is missing: the weights as transformers saves them must be there")
        self._read.update(paths)
        return paths

    def _names(self) -> set[str]:
        """Return the names of the checkpoint's files, here or at the hub."""
        return {path.name for path in self.folder.iterdir()} if self.snapshot is None else set(self.snapshot.files)

    def feature_extractor(self) -> Any:
        """Load the feature extractor with the checkpoint's settings."""
        with _reading(f"{self.folder / 'preprocessor_config.json'}, which says how audio is prepared,"):
            return AutoFeatureExtractor.from_pretrained(self.folder, trust_remote_code=False)

    def model(self, architecture: str, part: Part | None = None) -> PreTrainedModel:
        """Load the weights in fp32, with the adapter of `target_lang`, ready for inference; or those of a `part`."""
        model_class = getattr(transformers, architecture)
        transformers.utils.logging.disable_progress_bar()  # it would break into ours
        files = self.weights(part.holds if part else None)
        weights = ", ".join(path.name for path in files)
        with _reading(f"{self.folder}: a {architecture} of config.json with the weights of {weights}"):
            given = {"config": part.config, "state_dict": part.read(files)} if part else {}
            source = None if part else self.folder
            model, report = model_class.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **given)
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
        if not any(".adapter_layer." in key for key in model.state_dict()):
            raise UnsupportedError(f"{self.source} has no attention adapters, so it cannot take --target-lang")
        safe = self.folder / f"adapter.{self.target_lang}.safetensors"
        path = next((path for path in (safe, safe.with_suffix(".bin")) if path.is_file()), None)
        if path is None:
            there = sorted({name.split(".")[1] for name in self._names() if fnmatchcase(name, "adapter.*.*")})
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

    def tokenizer(self) -> Any:
        """Load the tokenizer with the checkpoint's settings."""
        with _reading(f"{self.folder}: the tokenizer (tokenizer.json, or its vocabulary, and tokenizer_config.json)"):
            return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)

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
    """Find `checkpoint`: a folder, or a hub id of which all but the weights is downloaded. Raises CheckpointError."""
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"--revision is for hub ids; {checkpoint} is a folder")
        return Checkpoint(folder, folder.resolve().name, None, target_lang)
    if not hub.is_id(checkpoint):
        raise CheckpointError(f"{checkpoint} is neither a folder nor a hub id")
    snapshot = hub.download(checkpoint, revision, target_lang)
    return Checkpoint(snapshot.folder, checkpoint, snapshot.commit, target_lang, snapshot)


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
