import hashlib

import pytest

from sonant.cli import main


def test_a_key_and_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key"]) == 0
    first = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert hashlib.sha256(first["key"].encode()).hexdigest() == first["sha256"]
    assert main(["key"]) == 0
    assert first["key"] not in capsys.readouterr().out
