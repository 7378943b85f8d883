from __future__ import annotations

import pytest

from server.schemas import options as server
from sonant.client import options as client

# `layer` is an argument of its own, the client asks for the format that it reads, and an encoding has its frame rate.
OWN = {"layer", "encoding_format", "response_format", "times"}


@pytest.mark.parametrize("name", ["EncodeOptions", "TranscribeOptions", "ClassifyOptions"])
def test_the_client_has_the_options_of_the_server(name: str) -> None:
    assert set(getattr(client, name).__annotations__) == set(getattr(server, name).model_fields) - OWN
