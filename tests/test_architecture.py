"""The arrows of the house: export -> engines <- server, and no family outside of export."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What each package may import of the others, and what it may not import from outside.
ALLOWED = {
    "engines": {"engines"},
    "export": {"engines", "export"},
    "server": {"engines", "server"},
    "sonant": {"engines", "export", "server", "sonant"},
}
TORCH = {"torch", "transformers", "onnx", "onnxscript", "onnx_ir"}
FORBIDDEN = {
    "engines": TORCH | {"fastapi", "uvicorn", "starlette", "soundfile"},
    "server": TORCH | {"onnxruntime", "tensorrt", "openvino"},
    "export": {"fastapi", "uvicorn", "starlette"},
    "sonant": TORCH,
}
OURS = set(ALLOWED) | {"benchmarks", "demo", "tests"}
# The short names as words of their own, `_` and digits being no letters, or at the beginning of a class's name.
FAMILIES = re.compile(
    r"(?i:hubert|wav2vec|gemma|speech_?encoder_?decoder)"
    r"|(?<![A-Za-z])(?:(?i:sew|ast|usm)(?![A-Za-z.])|(?:SEW|AST|USM)(?=D?[A-Z][a-z]))"
)


SPEECH = ("config", "convolutions", "encoder", "heads", "model", "reference", "state", "transformer")
USM = ("attention", "config", "conformer", "extractor", "mel", "model", "reference", "state", "subsampling")
SPECTROGRAM = ("config", "model", "reference", "transformer")
CLIENT = ("calls", "configuration", "errors", "results", "tensors")
RUNS = ("execution", "local", "remote", "requests")
DECODERS = ("bart", "bert", "config", "encoders", "gpt2", "step", "weights")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_who_imports_whom(package: str) -> None:
    assert modules(package)
    for path in modules(package):
        found = imports(path)
        assert found & OURS <= ALLOWED[package], path
        assert not found & FORBIDDEN[package], path


@pytest.mark.parametrize("package", ["engines", "server"])
def test_no_family_is_named(package: str) -> None:
    for path in modules(package):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not FAMILIES.search(line), f"{path}:{number}: {line}"


def test_the_family_pattern_finds_families() -> None:
    names = "HubertModel wav2vec2 sew AST usm Gemma3n Wav2Vec2Model Wav2Vec2CTCTokenizer SEWModel SEWDModel ASTModel "
    names += "SEWForCTC ast_fbank sew_d usm_mel make_usm AST2 SpeechEncoderDecoder speech_encoder_decoder"
    assert [name for name in names.split() if not FAMILIES.search(name)] == []
    ours = "last fast broadcast broadcast_to BROADCAST FAST_PATH ast.parse ast.walk fasten sewn consume forecast_2"
    assert [name for name in ours.split() if FAMILIES.search(name)] == []


@pytest.mark.parametrize("module", ["server.app", "engines.engine", "sonant.cli"])
def test_serving_needs_neither_torch_nor_transformers(module: str) -> None:
    heavy = sorted(TORCH)
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_module_has_its_test_module() -> None:
    """Tests mirror the tree; what is tested elsewhere says where."""
    elsewhere = {
        "engines/batch.py": "engines/test_engine.py",
        "engines/errors.py": "engines/test_manifest.py",
        "engines/parts.py": "engines/test_manifest.py",
        **{f"engines/runtimes/tensorrt/{name}.py": "bindings/test_calls.py" for name in ("device", "log", "session")},
        "export/errors.py": "export/test_exporter.py",
        "export/exportable.py": "export/test_exporter.py",
        "export/families/ast.py": "export/test_ast.py",
        "export/families/hubert.py": "export/test_hubert.py",
        **{f"export/decoders/{name}.py": "export/test_speech_encoder_decoder.py" for name in DECODERS},
        "export/families/speech_encoder_decoder.py": "export/test_speech_encoder_decoder.py",
        "export/graphs.py": "export/test_exporter.py",
        "export/outputs.py": "export/test_exporter.py",
        "export/precision/form.py": "export/precision/test_typed.py",
        "export/families/sew.py": "export/test_sew.py",
        "export/tensorrt/build.py": "bindings/test_build.py",
        **{f"export/tensorrt/{name}.py": "bindings/test_calls.py" for name in ("builder", "progress")},
        "export/families/usm.py": "export/test_usm.py",
        "export/families/wav2vec2.py": "export/test_wav2vec2.py",
        **{f"export/speech/{name}.py": "export/test_hubert.py" for name in SPEECH},
        **{f"export/spectrogram/{name}.py": "export/test_ast.py" for name in SPECTROGRAM},
        **{f"export/usm/{name}.py": "export/test_usm.py" for name in USM},
        **{f"server/audio/{name}.py": "server/audio/test_processes.py" for name in ("child", "parent", "protocol")},
        "server/decoding/transcript.py": "server/tasks/test_transcribe.py",
        "server/routes/answers.py": "server/routes/test_encode.py",
        "server/speech.py": "server/routes/test_openai.py",
        "server/scheduling/engine.py": "server/scheduling/test_scheduler.py",
        "server/schemas/answers.py": "server/routes/test_documentation.py",
        "server/schemas/openai.py": "server/routes/test_openai.py",
        "server/schemas/options.py": "server/routes/test_documentation.py",
        "server/schemas/stream.py": "server/routes/test_stream.py",
        **{f"sonant/client/{name}.py": "sonant/client/test_synchronous.py" for name in CLIENT},
        **{f"sonant/commands/{name}.py": "sonant/test_cli.py" for name in ("export", "parsing", "verify")},
        **{
            f"sonant/commands/{name}.py": "sonant/commands/test_runs.py"
            for name in ("classify", "encode", "transcribe")
        },
        **{f"sonant/doctor/{name}.py": "sonant/doctor/test_examination.py" for name in ("finding", "request")},
        "sonant/doctor/child.py": "sonant/doctor/test_isolation.py",
        "sonant/doctor/configuration.py": "sonant/doctor/test_engines.py",
        "sonant/commands/evaluate.py": "sonant/evaluation/test_evaluate.py",
        "sonant/evaluation/asking.py": "sonant/evaluation/test_evaluate.py",
        **{f"sonant/runs/{name}.py": "sonant/commands/test_runs.py" for name in RUNS},
        **{f"sonant/runs/{name}.py": "sonant/runs/test_destinations.py" for name in ("archive", "state")},
        **{f"sonant/runs/{name}.py": "sonant/runs/test_outputs.py" for name in ("errors", "outcomes")},
        "sonant/commands/build.py": "bindings/test_build.py",
        "sonant/terminal.py": "sonant/test_cli.py",
    }
    assert all((ROOT / path).is_file() for path in elsewhere)
    for package in ALLOWED:
        for path in modules(package):
            relative = path.relative_to(ROOT)
            if path.name == "__init__.py":
                continue
            expected = elsewhere.get(str(relative), str(relative.parent / f"test_{path.name}"))
            assert (ROOT / "tests" / expected).is_file(), f"{relative} has no {expected}"
