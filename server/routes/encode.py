"""POST /v1/encode."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from fastapi import Request, Response

from server.errors import NotAcceptableError, OptionError
from server.http.body import JSON
from server.kept import WHOLE_ANSWER_VALUES
from server.memory import Hold
from server.metrics import stage
from server.routes.answers import context
from server.routes.direct import direct_router
from server.routes.documentation import NOT_ACCEPTABLE, responses, task_body
from server.routes.embeddings import DTYPES, NPY, PIECE_VALUES, SAFETENSORS, Array, Layout, Part, layout
from server.routes.inputs import read_inputs
from server.routes.pieces import Pieces, Sender
from server.running import ClipRow, Runner
from server.schemas.answers import EncodeAnswer
from server.schemas.options import EncodeOptions
from server.service import Context, Service
from server.tasks.encode import Encode, Encoding, Finish, Wanted, split
from server.windows import Window

router = direct_router()

# Of a media type in Accept.
WEIGHT = re.compile(r"q=([01](?:\.\d{0,3})?)")

# Of a value in JSON: some 10 with its comma, twice while the pieces are put together.
FLOAT_CHARACTERS = 20


@router.post(
    "/v1/encode",
    summary="Audio -> embeddings or hidden states",
    responses=responses(EncodeAnswer, NPY, SAFETENSORS) | NOT_ACCEPTABLE,
    openapi_extra=task_body(EncodeOptions),
)
async def encode(request: Request) -> Response:
    """Encode each clip; `Accept` chooses JSON, application/x-npy (one array) or application/vnd.safetensors.

    The other two than JSON have the number of windows of each clip in the header X-Windows. The frames of a clip that
    is cut into windows are sent window by window, one layer at a time; a connection that breaks off before the answer
    is complete means that a window failed.
    """
    media = negotiate(request.headers.get("accept", "*/*"))
    return Pieces(partial(_answer, request, context(request), media))


async def _answer(request: Request, asked: Context, media: str, sender: Sender) -> Response | None:
    """Send the answer, or return it where it is small."""
    service = asked.service
    async with (
        read_inputs(request, EncodeOptions, service) as inputs,
        service.models.lease(inputs.options.model, "encode") as served,
    ):
        request.state.model = model = served.engine.name
        options = inputs.options
        check_media(media, options, len(inputs.sources))
        task = Encode(served.engine.manifest, options, value_bytes(media, options))
        async with service.opened(served, task, inputs.sources, asked.timings, inputs.deadline) as runner:
            if runner.is_cut and task.streamed:
                stream = Stream(task.streamed, task.finish, runner, partial(layout, media, options, model), service)
                await stream.send(asked.answer, sender)
                return None
            rows = await runner.rows(asked.answer)
        with stage(asked.timings, "postprocess"):
            size = answer_bytes(media, options, rows)
            results = await service.offload(partial(encodings, task, rows), size)
            written = layout(media, options, model, [part for part, _ in results])
            if sum(part.values for part in written.parts) <= WHOLE_ANSWER_VALUES:
                body = await service.offload(partial(whole, written, results), size)
                return Response(body, media_type=media, headers=written.headers)
    await _send(written, results, service, sender)
    return None


async def _send(written: Layout, results: Sequence[tuple[Part, Encoding]], service: Service, sender: Sender) -> None:
    """Send what is there, piece by piece."""
    await sender.begin(written.media, await service.offload(lambda: written.length), written.headers)
    await sender.piece(written.begin())
    for part, encoding in results:
        await sender.piece(written.open(part))
        for piece in encoding.pieces(PIECE_VALUES):
            await sender.piece(await service.offload(partial(encoded, written, encoding.finish, piece)))
        await sender.piece(await service.offload(partial(written.close, part)))
    await sender.piece(written.end())


@dataclass(frozen=True)
class Stream:
    """The frames of clips that are cut, on their way from the engine to the client."""

    wanted: Wanted
    finish: Finish
    runner: Runner
    make: Callable[[Sequence[Part]], Layout]
    service: Service

    async def send(self, answer: Hold, sender: Sender) -> None:
        """Send the frames of each clip as they come, window by window: only those that are on their way are kept."""
        async with aclosing(self.runner.last_first(answer)) as windows:
            last = [await anext(windows) for _ in self.runner.cuts]  # the length of the answer is known then
            written = self.make([self._part(index, window) for index, window in enumerate(last)])
            length = await self.service.offload(lambda: written.length)
            await sender.begin(written.media, length, written.headers)
            await sender.piece(written.begin())
            for part, cut, end in zip(written.parts, self.runner.cuts, last, strict=True):
                await sender.piece(written.open(part))
                for _ in cut.spans[1:]:
                    await self._send_window(await anext(windows), written, sender)
                await self._send_window(end, written, sender)
                await sender.piece(await self.service.offload(partial(written.close, part)))
            await sender.piece(written.end())

    async def _send_window(self, window: Window, written: Layout, sender: Sender) -> None:
        for piece in split(self.wanted.frames(window), PIECE_VALUES):
            await sender.piece(await self.service.offload(partial(encoded, written, self.finish, piece)))

    def _part(self, index: int, last: Window) -> Part:
        """Return what is known of a clip's array by its last window."""
        cut, frames = self.runner.cuts[index], self.wanted.frames(last)
        before = last.span.keep_start // (self.wanted.samples_per_frame or 1)
        shape = (before + len(frames), *frames.shape[1:])
        return Part(index, self.wanted.layer, shape, self.wanted.frame_rate_hz, cut.duration, len(cut.spans))


def negotiate(accept: str) -> str:
    """Return the media type that `accept` prefers (RFC 9110, 12.5.1), of equal ones the first.

    Raises NotAcceptableError where none can be given.
    """
    asked: dict[str, tuple[float, int]] = {}
    for place, item in enumerate(accept.split(",")):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        weights = [match for parameter in parameters if (match := WEIGHT.fullmatch(parameter))]
        asked[media] = (float(weights[0][1]) if weights else 1.0, -place)

    def preference(media: str) -> tuple[float, int]:
        ranges = (media, "application/*", "*/*", "")  # the closest counts
        return next((asked[name] for name in ranges if name in asked), (0.0, 0))

    best = max((JSON, NPY, SAFETENSORS), key=preference)
    if not preference(best)[0]:
        raise NotAcceptableError(f"the answer can be {JSON}, {NPY} or {SAFETENSORS}", "Accept")
    return best


def check_media(media: str, options: EncodeOptions, clips: int) -> None:
    """Raise where `media` cannot hold what is asked for, or `options` speak of another."""
    if media == NPY and clips * max(1, len(options.layers)) > 1:
        raise NotAcceptableError(f"{NPY} holds one array: ask for one clip and one layer, or {SAFETENSORS}", "Accept")
    for name in ("encoding_format", "times"):
        if media != JSON and name in options.model_fields_set:
            raise OptionError(f"{name} is of {JSON} only, not of {media}", name)


def value_bytes(media: str, options: EncodeOptions) -> float:
    """Return about what one value takes in the answer."""
    size = DTYPES[options.dtype].itemsize
    if media != JSON:
        return size
    return size * 4 / 3 if options.encoding_format == "base64" else FLOAT_CHARACTERS


def answer_bytes(media: str, options: EncodeOptions, rows: Sequence[ClipRow]) -> float:
    """Return about how many bytes the answer has, twice for numbers in JSON."""
    arrays = (array for clip in rows for window in clip.windows for array in window.row.values())
    return sum(array.size for array in arrays) * value_bytes(media, options)


def encodings(task: Encode, rows: Sequence[ClipRow]) -> list[tuple[Part, Encoding]]:
    """Make the task's results of `rows`."""
    return [
        (
            Part(index, one.layer, one.shape, one.frame_rate_hz, clip.duration, len(clip.windows)),
            one,
        )
        for index, clip in enumerate(rows)
        for one in task.result(clip.windows)
    ]


def whole(written: Layout, results: Sequence[tuple[Part, Encoding]]) -> bytes:
    """Return a small answer."""
    body = [written.begin()]
    for part, encoding in results:
        body.append(written.open(part))  # before its pieces are encoded: one goes on where the one before it ended
        body += [encoded(written, encoding.finish, piece) for piece in encoding.pieces(PIECE_VALUES)]
        body.append(written.close(part))
    return b"".join([*body, written.end()])


def encoded(written: Layout, finish: Finish, piece: Array) -> bytes:
    """Return a piece of an array as it is sent."""
    return written.encode(finish(piece))
