"""What a decoder writes, against transformers on one unpadded clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from engines.manifest import LOGITS
from engines.verify import error
from export import checkpoint as checkpoints
from export import families, golden, outputs
from export.errors import CheckpointError, ExportError, UnsupportedError
from export.exportable import Exportable, Options
from export.parity import TOLERANCE, worst_excess
from tests.export.exactness import assert_exact
from tests.export.texts import Writer
from tests.support import noise
from tests.zoo import speech_encoder_decoder as zoo
from tests.zoo.speech_encoder_decoder import AST, DECODERS, VOCABULARY, decoder_config, write

ARCHITECTURE = "SpeechEncoderDecoderModel"
CLIPS = [noise(9000, seed=1), noise(3100, seed=2), noise(6200, seed=3)]
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def build(folder: Path, **config: Any) -> Exportable:
    return families.build(checkpoints.resolve(str(write(folder, ARCHITECTURE, **config))))


def texts(clips: int, steps: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, (clips, steps))


def assert_text(exportable: Exportable, logits: NDArray[np.float32], clip: NDArray[np.float32], text: Any) -> None:
    """The logits [steps, vocabulary] after each token of `text` are those of transformers."""
    assert exportable.decoder is not None
    decoder = exportable.decoder

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        return decoder.reference(clip, text, dtype)

    _, found, bound = worst_excess({LOGITS: logits}, reference, clip)
    assert found <= bound


@pytest.fixture(scope="module", params=DECODERS)
def exportable(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exportable:
    return build(tmp_path_factory.mktemp(request.param), decoder=decoder_config(request.param, hidden_size=24))


def test_a_text_alone_and_in_a_padded_batch_of_beams(exportable: Exportable) -> None:
    writer, given = Writer(exportable), texts(len(CLIPS), 9)
    together = writer.follow(writer.start(CLIPS, beams=3), given)
    for clip, text, logits in zip(CLIPS, given, together, strict=True):
        (alone,) = writer.follow(writer.start([clip], beams=1), text[None])
        assert_text(exportable, alone, clip, text)
        assert error(logits, alone) <= TOLERANCE


def test_what_the_cross_attention_reads(exportable: Exportable) -> None:
    writer = Writer(exportable)
    state = writer.start(CLIPS, beams=2)
    for index, clip in enumerate(CLIPS):
        truth = writer.decoder.reference(clip, np.array([1]))
        for name, value in state.cross.items():
            assert value.numpy().shape[0] == len(CLIPS)  # never repeated for the beams of a clip
            assert error(value.numpy()[index, :, : state.frames[index]], truth[name]) <= TOLERANCE


def test_the_cache_follows_the_parents_as_that_of_transformers(exportable: Exportable) -> None:
    writer, beams, steps = Writer(exportable), 3, 7
    generator = np.random.default_rng(5)
    tokens = generator.integers(0, VOCABULARY, (steps, len(CLIPS), beams))
    parents = generator.integers(0, beams, (steps, len(CLIPS), beams))
    parents[0] = 0
    state = writer.start(CLIPS, beams)
    found = [writer.step(state, tokens[index], parents[index]) for index in range(steps)]
    model = writer.decoder.reference._models[torch.float32]  # type: ignore[attr-defined]
    for clip, waveform in enumerate(CLIPS):
        frames = torch.from_numpy(exportable.reference(waveform)["embeddings"])[None].repeat(beams, 1, 1)
        cache: Any = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for index in range(steps):
            if index:
                cache.reorder_cache(torch.from_numpy(parents[index, clip]))
            with torch.inference_mode():
                result = model(
                    encoder_outputs=(frames,),
                    decoder_input_ids=torch.from_numpy(tokens[index, clip])[:, None],
                    past_key_values=cache,
                    use_cache=True,
                )
            assert error(found[index][clip], result.logits[:, -1].numpy()) <= TOLERANCE


def test_clips_that_are_left_go_on_as_before(exportable: Exportable) -> None:
    writer, given = Writer(exportable), texts(len(CLIPS), 8)
    alone = [writer.follow(writer.start([clip], 1), text[None])[0] for clip, text in zip(CLIPS, given, strict=True)]
    state, clips = writer.start(CLIPS, beams=2), [0, 1, 2]
    for index in range(8):
        if index in {3, 6}:
            clips = clips[:0:-1] if index == 3 else clips[1:]
            state.keep([2, 1] if index == 3 else [1])
            longest = state.frames.max()
            assert {value.numpy().shape[2] for value in state.cross.values()} == {longest}
        tokens = np.repeat(given[clips, index, None], 2, 1)
        logits = writer.step(state, tokens, np.zeros((state.clips, 2), np.int64))
        for clip, rows in zip(clips, logits, strict=True):
            assert all(error(row, alone[clip][index]) <= TOLERANCE for row in rows)
    assert clips == [1]
    assert (state.clips, state.beams, state.steps) == (1, 2, 8)


def test_what_a_step_refuses(exportable: Exportable) -> None:
    writer = Writer(exportable)
    state = writer.start(CLIPS, beams=2)
    fine = np.zeros((3, 2), np.int64)
    for tokens, parents in ((fine[:2], fine), (fine, fine[:, :1])):
        with pytest.raises(ValueError, match="clips and beams"):
            writer.step(state, tokens, parents)
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match="none of the 2 beams"):
            writer.step(state, fine, fine + wrong)
    state.steps = writer.spec.max_positions or 0
    with pytest.raises(ValueError, match="no position beyond"):
        writer.step(state, fine, fine)


def test_the_last_position_can_be_taken(exportable: Exportable) -> None:
    writer = Writer(exportable)
    steps = writer.spec.max_positions or 0
    text = texts(1, steps)
    assert_text(exportable, writer.follow(writer.start(CLIPS[:1], 1), text)[0], CLIPS[0], text[0])


@settings(relaxed, max_examples=8)
@given(data=st.data())
def test_random_decoders(tmp_path: Path, data: st.DataObject) -> None:
    check_random(tmp_path, data)


@pytest.mark.slow
@settings(relaxed, max_examples=300)
@given(data=st.data())
def test_many_random_decoders(tmp_path: Path, data: st.DataObject) -> None:
    check_random(tmp_path, data)


def check_random(folder: Path, data: st.DataObject) -> None:
    config = data.draw(zoo.KIND.configurations)
    exportable = build(folder, **config)
    writer, shortest = Writer(exportable), exportable.min_samples
    lengths = data.draw(st.lists(st.integers(shortest, zoo.KIND.longest(config, shortest)), min_size=1, max_size=3))
    clips = [noise(length, seed=index) for index, length in enumerate([shortest, *lengths])]
    given = texts(len(clips), data.draw(st.integers(1, 6)))
    together = writer.follow(writer.start(clips, data.draw(st.integers(1, 3))), given)
    for clip, text, logits in zip(clips, given, together, strict=True):
        assert_text(exportable, logits, clip, text)


def test_a_pad_token_of_roberta_takes_the_position_of_padding(tmp_path: Path) -> None:
    exportable = build(tmp_path, decoder=decoder_config("roberta"))
    writer, text = Writer(exportable), np.array([[zoo.PAD, 5, zoo.PAD, zoo.PAD, 7]])
    assert_text(exportable, writer.follow(writer.start(CLIPS[:1], 1), text)[0], CLIPS[0], text[0])


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "mbart"])
def test_an_activation_with_weights_of_its_own(tmp_path: Path, kind: str) -> None:
    exportable = build(tmp_path, decoder=decoder_config(kind, hidden_act="xielu"))
    writer, text = Writer(exportable), texts(1, 3)
    assert_text(exportable, writer.follow(writer.start(CLIPS[:1], 1), text)[0], CLIPS[0], text[0])


def test_weights_that_the_embeddings_share_with_the_head_are_kept_once(tmp_path: Path) -> None:
    for tied in (True, False):
        folder = tmp_path / str(tied)
        decoder = decoder_config("bert", intermediate_size=24, tie_word_embeddings=tied)
        step = Writer(build(folder, decoder=decoder)).decoder.step
        wide = [name for name, parameter in step.named_parameters() if sorted(parameter.shape) == [32, VOCABULARY]]
        assert len(wide) == (1 if tied else 2)


def test_a_projection_between_the_widths_is_part_of_the_start(tmp_path: Path) -> None:
    narrow = build(tmp_path / "narrow", decoder=decoder_config("gpt2", hidden_size=24))
    same = build(tmp_path / "same", decoder=decoder_config("gpt2", hidden_size=32))
    assert any("projection" in name for name in narrow.module.state_dict() if name.startswith("cross."))
    assert not any("projection" in name for name in same.module.state_dict() if name.startswith("cross."))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Exportable:
    """Over an encoder whose embeddings are no frames but as many tokens for every clip."""
    folder = tmp_path_factory.mktemp("tokens")
    return build(folder, seed=1, encoder={"model_type": AST}, decoder=decoder_config("bert", hidden_size=24))


def test_a_text_over_tokens_alone_and_in_a_padded_batch_of_beams(tokens: Exportable) -> None:
    clips = [*CLIPS, noise(tokens.min_samples, seed=4), noise(tokens.max_samples or 0, seed=5)]
    assert_exact(tokens, clips)
    writer, given = Writer(tokens), texts(len(clips), 9)
    state = writer.start(clips, beams=3)
    assert state.frames.tolist() == [38] * len(clips)
    assert {value.numpy().shape[2] for value in state.cross.values()} == {38}
    together = writer.follow(state, given)
    for clip, text, logits in zip(clips, given, together, strict=True):
        (alone,) = writer.follow(writer.start([clip], beams=1), text[None])
        assert_text(tokens, alone, clip, text)
        assert error(logits, alone) <= TOLERANCE


def test_a_text_over_tokens_is_what_transformers_generates(tokens: Exportable) -> None:
    writer, none = Writer(tokens), np.zeros((len(CLIPS), 1), np.int64)
    model = writer.decoder.reference._models[torch.float32]  # type: ignore[attr-defined]
    state, found = writer.start(CLIPS, beams=1), [none + zoo.START]
    while len(found) < 12:
        found.append(writer.step(state, found[-1], none).argmax(-1))
    texts = np.concatenate(found, 1)
    for clip, text in zip(CLIPS, texts, strict=True):
        features = tokens.reference._features(clip, torch.float32)  # type: ignore[attr-defined]
        assert model.generate(features, max_length=12, eos_token_id=None)[0].tolist() == text.tolist()
    assert len({tuple(text) for text in texts}) > 1


def test_golden_clips_of_many_tokens_keep_some_of_what_a_decoder_reads(tmp_path: Path) -> None:
    encoder = {"model_type": AST, "hidden_size": 1024, "num_hidden_layers": 1, "max_length": 1024}
    decoder = decoder_config("bert", hidden_size=1024, num_hidden_layers=1)
    wide = build(tmp_path, encoder=encoder, decoder=decoder)
    kept = golden.kept_outputs(wide, ())
    clips = golden.make_clips(wide, kept)
    description = golden.describe(wide, len(clips), kept)
    assert len(clips) == 2
    assert description.rows
    assert description.rows * 1024 * 4 * len(clips) * 3 <= golden.BYTES
    (name,) = description.cross
    truth = golden.reference_of(wide, description)(clips[0])
    assert truth[name].shape == (4, description.rows, 256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder__num_mel_bins": 64}, "max_length and num_mel_bins must agree"),
        ({"encoder__num_mel_bins": None}, "num_mel_bins"),
        ({"encoder__max_length": 0}, "max_length is 0"),
        ({"encoder__num_attention_heads": -1}, "num_attention_heads is -1"),
        ({"encoder__hidden_act": "nonsense"}, "activation 'nonsense'"),
        ({"encoder__patch_size": [16, 16]}, "one size for both axes"),
    ],
)
def test_an_encoder_of_tokens_that_makes_no_model_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write(tmp_path, ARCHITECTURE, encoder={"model_type": AST})
    rewrite(tmp_path, **change)
    with pytest.raises((CheckpointError, UnsupportedError), match=message):
        families.build(checkpoints.resolve(str(tmp_path)))


def test_the_feature_extractor_is_that_of_the_encoder(tmp_path: Path) -> None:
    write(tmp_path / "frames", ARCHITECTURE)
    write(tmp_path / "tokens", ARCHITECTURE, encoder={"model_type": AST})
    name = "preprocessor_config.json"
    frames, tokens = ((tmp_path / kind / name).read_text() for kind in ("frames", "tokens"))
    for kind, other, message in (("frames", tokens, "only Wav2Vec2Feature"), ("tokens", frames, "only ASTFeature")):
        (tmp_path / kind / name).write_text(other)
        with pytest.raises(UnsupportedError, match=message):
            families.build(checkpoints.resolve(str(tmp_path / kind)))


def test_no_variant_of_an_encoder_of_tokens_is_exported(tmp_path: Path) -> None:
    checkpoint = checkpoints.resolve(str(write(tmp_path, ARCHITECTURE, encoder={"model_type": AST})))
    with pytest.raises(UnsupportedError, match=r"--variant cropped: .* has the variants: none"):
        families.build(checkpoint, Options(variant="cropped"))


@pytest.mark.parametrize("encoder", ["hubert", AST])
@pytest.mark.parametrize("part", ["", "encoder__", "decoder__"])
def test_a_checkpoint_that_asks_for_tuples(tmp_path: Path, encoder: str, part: str) -> None:
    write(tmp_path, ARCHITECTURE, encoder={"model_type": encoder})
    rewrite(tmp_path, **{f"{part}return_dict": False})
    exportable = families.build(checkpoints.resolve(str(tmp_path)))
    writer, text = Writer(exportable), texts(1, 2)
    assert_text(exportable, writer.follow(writer.start(CLIPS[:1], 1), text)[0], CLIPS[0], text[0])


def rewrite(folder: Path, **changes: Any) -> None:
    """Change config.json; a name of two parts is one of the encoder's or decoder's."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in changes.items():
        part, _, inner = name.partition("__")
        if inner:
            config[part][inner] = value
        else:
            config[part] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder__model_type": "speech_to_text_2"}, "speech_to_text_2"),
        ({"decoder__model_type": "electra"}, "the decoder is a 'electra'; Sonant exports bart, bert"),
        ({"decoder__model_type": "llama"}, "the decoder is a 'llama'"),
        ({"encoder__model_type": "wavlm"}, "the encoder is a 'wavlm'; Sonant exports"),
        ({"decoder__add_cross_attention": False}, "add_cross_attention must be true"),
        ({"decoder__is_decoder": False}, "is_decoder must be true"),
        ({"decoder__hidden_act": "nonsense"}, "activation 'nonsense'"),
        ({"decoder__num_hidden_layers": 0}, "num_layers is 0"),
        ({"decoder__num_attention_heads": 0}, "num_heads is 0"),
        ({"decoder__max_position_embeddings": -1}, "max_positions is -1"),
        ({"decoder__vocab_size": "many"}, "config.json"),
        ({"decoder": None}, "cannot be read"),
        ({"encoder": 3}, "encoder"),
        ({"architectures": ["SpeechEncoderDecoderForTiming"]}, "is a SpeechEncoderDecoderForTiming"),
    ],
)
def test_what_is_not_exported_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path, ARCHITECTURE)
    rewrite(tmp_path, **change)
    with pytest.raises((CheckpointError, UnsupportedError), match=message):
        families.build(checkpoints.resolve(str(tmp_path)))


def test_widths_that_do_not_meet_are_named(tmp_path: Path) -> None:
    """transformers projects from `hidden_size`, and an adapter's frames have another."""
    encoder = {"model_type": "wav2vec2", "add_adapter": True, "output_hidden_size": 24}
    with pytest.raises(ExportError, match="frames have 24 features, its decoder expects 32"):
        build(tmp_path, encoder=encoder, decoder=decoder_config("bert", hidden_size=40))


@pytest.mark.parametrize("place", ["generation_config.json", "config.json", "the decoder of config.json"])
def test_settings_are_found_where_transformers_finds_them(tmp_path: Path, place: str) -> None:
    write(tmp_path, ARCHITECTURE, decoder=decoder_config("mbart"), generation={"num_beams": 3})
    if place != "generation_config.json":
        (tmp_path / "generation_config.json").unlink()
        inner = "decoder__" if place.startswith("the decoder") else ""
        rewrite(tmp_path, decoder_start_token_id=zoo.START, **{f"{inner}num_beams": 3})
    checkpoint = checkpoints.resolve(str(tmp_path))
    exportable = families.build(checkpoint)
    assert exportable.decoder is not None
    search = exportable.decoder.generation.search
    assert search.num_beams == 3
    # The one that mBART's configuration has of itself.
    assert search.forced_eos_token_id == (None if place == "generation_config.json" else 2)
    assert exportable.decoder.generation.start_token == zoo.START


def test_the_cross_attention_stays_where_outputs_are_chosen(tmp_path: Path) -> None:
    checkpoint = checkpoints.resolve(str(write(tmp_path, ARCHITECTURE)))
    chosen = outputs.build(checkpoint, Options(), ("pooled",))
    assert [output.name for output in chosen.outputs] == ["pooled"]
    assert (chosen.lengths, chosen.tasks) == (("frames",), ("transcribe",))
    writer = Writer(chosen)
    text = texts(1, 3)
    assert_text(chosen, writer.follow(writer.start(CLIPS[:1], 1), text)[0], CLIPS[0], text[0])
    for left in ("logits", "attentions"):
        with pytest.raises(UnsupportedError, match=rf"--outputs {left}: .* has none of them"):
            outputs.build(checkpoint, Options(attentions=left == "attentions"), (left,))
