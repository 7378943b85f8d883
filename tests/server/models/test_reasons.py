from pathlib import Path

import pytest

from engines.errors import EngineInvalidError
from server.errors import ModelLoadError
from server.models.reasons import reason


@pytest.mark.parametrize(
    ("models", "message", "told"),
    [
        ("/srv/my models", "/srv/my models/tiny/2/engine.json: cut short", "tiny/2/engine.json: cut short"),
        ("/srv/models", "'/srv/models/a/b.onnx' and /srv/models/a/c differ", "'a/b.onnx' and a/c differ"),
        ("models", "models/tiny/x.onnx cannot be read", "tiny/x.onnx cannot be read"),
        (".", "tiny/x.onnx cannot be read (../y)", "tiny/x.onnx cannot be read (../y)"),
        ("/srv/models", "cannot load /usr/lib/python3/a-b/libx.so: no such file", "cannot load libx.so: no such file"),
        ("/srv/models", "2 rows/s, and/or https", "2 rows/s, and/or https"),
    ],
)
def test_files_are_named_from_the_models_folder_on(models: str, message: str, told: str) -> None:
    assert reason(EngineInvalidError(message), Path(models)) == told


def test_a_link_to_the_models_folder_hides_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for folder in ("real", "link"):
        assert reason(EngineInvalidError(f"{tmp_path}/{folder}/a/b: no"), tmp_path / "link") == "a/b: no"


def test_what_was_not_foreseen_is_in_the_log_only() -> None:
    assert "secret" not in reason(OSError("secret"), Path("models"))
    assert reason(ModelLoadError("ours"), Path("models")) == "ours"
