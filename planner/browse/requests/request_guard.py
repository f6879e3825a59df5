"""Who may ask the server what: its own page alone, and with a token if others can reach it."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlencode, urlsplit

from flask import Flask, Request, Response, redirect, request

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that no other can reach."""
TOKEN = "token"
"""The parameter of the address that brings it."""
_READING = ("GET", "HEAD", "OPTIONS")
_FOREVER = 31_536_000
_REFUSED = {
    "host": "this page is for this machine alone: open it under http://127.0.0.1 or http://localhost",
    "origin": "only the page itself may ask for this",
    "token": "this page needs the token that `planner browse` printed: open the address with it",
}


@dataclass(frozen=True, kw_only=True)
class RequestGuard:
    """Lets requests of the page through, and no others."""

    is_local: bool = True
    """Whether the server is reached from this machine alone."""
    token: str = ""
    """What a visitor must know; empty: nothing."""
    cookie: str = "planner-browse"
    """Name of what a browser keeps that knows the token: all ports of a host share one jar."""
    script_hashes: tuple[str, ...] = ()
    """Of the scripts inside the page."""

    def protect(self, app: Flask) -> None:
        """Check what an app is asked, and add to its answers what a browser must obey."""
        app.before_request(self._check)
        app.after_request(self._add_headers)

    def _check(self) -> Response | None:
        """Return a refusal, or a detour that stores the token; `None` lets the request through."""
        if self.is_local and not _is_here(request):
            return _refusal("host")
        if request.method not in _READING and not _is_of_page(request):
            return _refusal("origin")
        if not self.token or self._is_known(request):
            return None
        return self._welcome() if self._brings_token(request) else _refusal("token")

    def _brings_token(self, asked: Request) -> bool:
        return _is_same(asked.args.get(TOKEN, ""), self.token)

    def _is_known(self, asked: Request) -> bool:
        return _is_same(asked.cookies.get(self.cookie, ""), self._pass())

    def _pass(self) -> str:
        """Return what a browser holds that brought the token, and that tells nobody the token."""
        return hashlib.sha256(self.token.encode()).hexdigest()

    def _welcome(self) -> Response:
        """Store that the browser knows the token, and open the address without it."""
        rest = [(name, value) for name, value in request.args.items(multi=True) if name != TOKEN]
        answer = redirect(request.path + (f"?{urlencode(rest)}" if rest else ""))
        answer.set_cookie(self.cookie, self._pass(), httponly=True, samesite="Lax")
        return cast("Response", answer)

    def _add_headers(self, answer: Response) -> Response:
        scripts = " ".join(["'self'", *self.script_hashes])
        policy = {
            "default-src": "'none'",
            "script-src": scripts,
            "style-src": "'self' 'unsafe-inline'",  # Plotly and the table place theirs as they run
            "img-src": "'self' data: blob:",
            "font-src": "'self' data:",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        answer.headers["Content-Security-Policy"] = "; ".join(map(" ".join, policy.items()))
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        if answer.cache_control.max_age != _FOREVER:  # as libraries have, whose names say theirs
            answer.headers["Cache-Control"] = "no-store"
        return answer


def is_loopback(host: str) -> bool:
    """Return whether a server that is bound to a host is reached from this machine alone."""
    return host in LOOPBACK


def _is_here(asked: Request) -> bool:
    """Return whether a browser believes to speak to this machine.

    One whose page came from elsewhere, under a name that was then made to lead here, does not.
    """
    try:
        return urlsplit(f"//{asked.host}").hostname in LOOPBACK
    except ValueError:  # no name of a host
        return False


def _is_of_page(asked: Request) -> bool:
    """Return whether a request that may change something comes from the page.

    Other sites can send no JSON without asking first, and browsers say where a request is from.
    """
    origin = asked.headers.get("Origin")
    is_own = origin is None or urlsplit(origin).netloc == asked.host
    is_same_site = asked.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
    return asked.is_json and is_own and is_same_site


def _is_same(given: str, secret: str) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode(), secret.encode())


def _refusal(reason: str) -> Response:
    return Response(f"{_REFUSED[reason]}\n", status=403, mimetype="text/plain")
