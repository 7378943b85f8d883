from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import get_args

import pytest

from engines.manifest import Precision, RuntimeName
from engines.runtimes import ConvSearch, Device, RuntimeOptions
from sonant.cli import main
from sonant.commands import forms
from tests.server.models.two_forms import break_it, place


def parsed(*arguments: str, several: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    forms.add(parser, several=several)
    forms.add_max_error(parser)
    forms.add_gpu(parser)
    return parser.parse_args(arguments)


def test_the_flags_know_all_that_there_is() -> None:
    assert set(forms.DEVICES) == set(get_args(Device))
    assert set(forms.RUNTIMES) == {"auto", *get_args(RuntimeName)}
    assert set(forms.SEARCHES) == set(get_args(ConvSearch))
    assert set(forms.PRECISIONS) == {"auto", *get_args(Precision)}


def test_what_is_not_given_is_as_by_default() -> None:
    assert forms.options(parsed()) == RuntimeOptions()
    given = parsed("--device=cuda", "--device-id=1", "--runtime=tensorrt", "--precision=fp16", "--max-error=0.02")
    expected = RuntimeOptions("cuda", runtime="tensorrt", precision="fp16", max_error=0.02, device_id=1)
    assert forms.options(given) == expected
    assert forms.options(parsed(), max_error=math.inf) == RuntimeOptions(max_error=math.inf)
    given = parsed("--conv-search=default", "--cuda-graphs", "--device-bytes=5")
    assert forms.options(given) == RuntimeOptions(conv_search="default", cuda_graphs=True, device_bytes=5)
    assert parsed("--device-id=0", "--device-id=2", several=True).device_ids == [0, 2]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "nan", "inf", "none"])
def test_an_error_is_a_share(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not an error"):
        forms.error(text)


def test_every_form_is_verified_and_what_fails_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(place(tmp_path / "engine"))
    assert main(["verify", folder, "--threads=1"]) == 0
    verified = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.rstrip().endswith("ok")]
    assert set(verified) == {"fp32", "int8"}
    assert main(["verify", folder, "--threads=1", "--precision=fp32"]) == 0
    printed = capsys.readouterr().out
    assert "onnxruntime/int8 is not run here: the precision is set to fp32" in " ".join(printed.split())
    break_it(tmp_path / "engine")
    assert main(["verify", folder, "--threads=1"]) == 1
    left = capsys.readouterr()
    assert "fp32" in left.out
    assert "int8.onnx is not the file that was exported" in left.err
