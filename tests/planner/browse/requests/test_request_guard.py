"""Who may ask the page what."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from planner.browse.requests.request_guard import RequestGuard, is_loopback

TOKEN = "d41d8cd98f"


def client(guard: RequestGuard) -> FlaskClient:
    app = Flask("page")
    app.add_url_rule("/", view_func=lambda: "page")
    app.add_url_rule("/ask", endpoint="ask", view_func=lambda: "answer", methods=["POST"])
    guard.protect(app)
    return app.test_client()


@pytest.fixture
def local() -> FlaskClient:
    return client(RequestGuard(script_hashes=("'sha256-x'",)))


@pytest.fixture
def remote() -> FlaskClient:
    return client(RequestGuard(is_local=False, token=TOKEN, cookie="pass"))


@pytest.mark.parametrize("host", ["127.0.0.1:8050", "localhost:8050", "[::1]:8050", "localhost"])
def test_this_machine_is_let_in_under_its_own_names(local: FlaskClient, host: str) -> None:
    assert local.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8050", "[", "a:b:c"])
def test_a_name_that_was_made_to_lead_here_is_refused(local: FlaskClient, host: str) -> None:
    answer = local.get("/", headers={"Host": host})
    assert answer.status_code in (400, 403)
    assert "page" not in answer.get_data(as_text=True).split()[:1]


def test_the_page_alone_may_ask(local: FlaskClient) -> None:
    own = {"Host": "127.0.0.1:8050", "Origin": "http://127.0.0.1:8050"}
    assert local.post("/ask", json={}, headers=own).status_code == 200
    for headers in (
        own | {"Origin": "https://evil.example"},
        own | {"Origin": "null"},
        own | {"Origin": "http://127.0.0.1:9999"},
        own | {"Sec-Fetch-Site": "cross-site"},
    ):
        assert local.post("/ask", json={}, headers=headers).status_code == 403
    # what another site's form can send
    assert local.post("/ask", data="{}", headers=own).status_code == 403


def test_nothing_foreign_is_loaded_or_framed(local: FlaskClient) -> None:
    headers = local.get("/").headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'sha256-x'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "http" not in headers["Content-Security-Policy"]
    assert "*" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_a_stranger_needs_the_token(remote: FlaskClient) -> None:
    for address in ("/", "/?token=", "/?token=wrong", "/?token=ü", f"/?token={TOKEN}x"):
        assert remote.get(address).status_code == 403
    assert remote.post("/ask", json={}).status_code == 403


def test_the_token_opens_the_page_once_and_for_all(remote: FlaskClient) -> None:
    welcome = remote.get(f"/?token={TOKEN}&run=a%26b")
    assert welcome.status_code == 302
    assert welcome.headers["Location"] == "/?run=a%26b"
    cookie = welcome.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert TOKEN not in cookie
    assert remote.get("/").status_code == 200
    assert remote.post("/ask", json={}).status_code == 200
    remote.set_cookie("pass", "gefälscht")
    assert remote.get("/").status_code == 403


def test_only_this_machine_is_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "", "192.168.0.7", "::")))
