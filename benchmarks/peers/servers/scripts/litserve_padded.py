"""LitServe and transformers, with batches that are padded to their longest clip."""

# No postponed annotations: LitServe reads those of decode_request to know what a request is.

from typing import Annotated, Any

import litserve
from fastapi import Body

from benchmarks.peers.servers.scripts import options
from benchmarks.peers.servers.scripts.encoder import Encoder
from benchmarks.peers.servers.scripts.wav import Clip, decode


class Embeddings(litserve.LitAPI):  # type: ignore[misc]  # it has no types
    """The model, as a service."""

    def setup(self, device: str) -> None:
        """Load it, in the process that computes."""
        self.encoder = Encoder(self.checkpoint, self.threads)

    def decode_request(self, request: Annotated[bytes, Body(media_type="audio/wav")]) -> Clip:
        """Return the clip in a body."""
        return decode(request)

    def batch(self, inputs: list[Clip]) -> list[Clip]:
        """Leave them as they are: the feature extractor pads."""
        return inputs

    def predict(self, clips: list[Clip]) -> list[dict[str, Any]]:
        """Encode a batch."""
        return self.encoder.padded(clips)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answers, which stand apart already."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return it as it is."""
        return output


if __name__ == "__main__":
    parser = options.parser(__doc__, "--checkpoint", "its folder")
    # Both as in the example of batches in LitServe's documentation.
    parser.add_argument("--batch", type=int, default=8, help="clips, at most")
    parser.add_argument("--wait", type=float, default=0.1, help="for a batch to fill, in seconds")
    arguments = parser.parse_args()
    api = Embeddings(max_batch_size=arguments.batch, batch_timeout=arguments.wait, api_path="/encode")
    api.checkpoint, api.threads = arguments.checkpoint, arguments.threads
    server = litserve.LitServer(api, accelerator="cpu", timeout=False)  # who waits too long is the client's to say
    server.run(host="127.0.0.1", port=arguments.port, generate_client_file=False, log_level="warning")
