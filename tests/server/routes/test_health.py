from tests.server.process import Server


def test_live(server: Server) -> None:
    assert server.client.get("/health/live").json() == {"status": "live"}


def test_ready(server: Server) -> None:
    response = server.client.get("/health/ready")
    assert response.status_code == 200
    models = {"tiny-base": "ready", "tiny-classifier": "ready", "tiny-ctc": "ready"}
    assert response.json() == {"status": "ready", "models": models}
