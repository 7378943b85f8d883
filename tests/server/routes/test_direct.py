from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from server.routes import classify, encode, openai, transcribe
from server.routes.direct import DirectRoute, direct_router


def test_the_function_alone_answers() -> None:
    router = direct_router()

    @router.post("/double", summary="Doubled")
    async def double(request: Request) -> Response:
        body = await request.body()
        if not body:
            raise HTTPException(418)
        return Response(2 * body)

    app = FastAPI()
    app.include_router(router)
    client = TestClient(app)
    assert client.post("/double", content=b"ab").content == b"abab"
    assert client.post("/double").status_code == 418
    assert client.get("/double").status_code == 405
    assert client.get("/openapi.json").json()["paths"]["/double"]["post"]["summary"] == "Doubled"


def test_all_tasks_are_answered_so() -> None:
    for module in (encode, transcribe, classify, openai):
        assert module.router.routes
        assert all(isinstance(route, DirectRoute) for route in module.router.routes)
