"""Serving the page: on one address, until its user ends it."""

import errno
import logging
import os
import secrets
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import FrameType

from planner.browse.requests.request_guard import TOKEN, RequestGuard, is_loopback
from search_spaces.errors import MissingExtraError, SettingsError, quoted

_THREADS = 8
_MOST_BODY = 2**22
"""Bytes of a request; it is read before anything of it is looked at."""
_ENDING = tuple(getattr(signal, n) for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n))
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a page is served, and to whom."""

    host: str = "127.0.0.1"
    port: int = 8050
    token: str | None = None
    """What visitors must know; `None`: nothing on this machine alone, else what is drawn here."""

    def check(self) -> None:
        """Refuse a place that there is not.

        Raises:
            SettingsError: If there is no such port, or the token is none.
        """
        if not 0 < self.port <= _HIGHEST_PORT:
            raise SettingsError(
                f"`--port` must be from 1 to {_HIGHEST_PORT}, got {self.port}; choose another, "
                "such as 8050"
            )
        if self.token is not None and not (self.token.isascii() and self.token.isalnum()):
            raise SettingsError(
                "`--token` must be made of letters and digits alone, got others or none; leave it "
                "out to have one made"
            )

    @property
    def address(self) -> str:
        """How a browser reaches it, without the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def serve(folder: Path, place: Place, told: Callable[[str], None], *, opens: bool) -> None:
    """Serve the page over a folder until Ctrl-C, which is its good end.

    Args:
        folder: With the runs.
        place: Where, and to whom.
        told: Gets the address once the page can be opened.
        opens: Whether to open it in the user's browser.

    Raises:
        MissingExtraError: If a package is missing that the page takes.
        RunError: If there is no such folder.
        SettingsError: If the place is none, or taken.
        KeyboardInterrupt: If another signal ends it.
    """
    place.check()
    check_installed()
    from waitress.server import create_server  # noqa: PLC0415  (of the extra)

    from planner.browse.app import opened_app  # noqa: PLC0415  (as above)

    is_local = is_loopback(place.host)
    token = place.token or ("" if is_local else secrets.token_hex(16))
    guard = RequestGuard(is_local=is_local, token=token, cookie=f"planner-browse-{place.port}")
    logging.getLogger("waitress").setLevel(logging.ERROR)
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(place))
        app, shelf = opened_app(folder, guard)
        stack.callback(shelf.close)
        server = create_server(
            app.server,
            sockets=[listener],
            threads=_THREADS,
            max_request_body_size=_MOST_BODY,
        )
        stack.callback(server.close)
        address = f"{place.address}/?{TOKEN}={token}" if token else place.address
        told(address)
        if opens and has_screen():
            Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        with _told_apart():
            server.run()  # which ends quietly by Ctrl-C


@contextmanager
def _told_apart() -> Iterator[None]:
    """Let signals end a server as they end a command: it takes all of them for Ctrl-C.

    Raises:
        KeyboardInterrupt: If one came that is not Ctrl-C.
    """
    came: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {}

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        handlers[number](number, frame)

    for number in _ENDING:
        handler = signal.getsignal(number)
        if callable(handler):
            handlers[number] = handler
            signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def check_installed() -> None:
    """Refuse to begin without a package of the extra.

    Raises:
        MissingExtraError: If one is missing.
    """
    from importlib.util import find_spec  # noqa: PLC0415  (no other needs it)

    for package in ("dash", "dash_ag_grid", "plotly", "waitress"):
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), "browse", "`planner browse`")


def has_screen() -> bool:
    """Return whether there is a desktop that a browser could open on."""
    is_desktop = sys.platform in ("darwin", "win32")
    return is_desktop or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _listener(place: Place) -> socket.socket:
    """Return what listens at a place.

    Raises:
        SettingsError: If it is taken, or there is no such place.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        return socket.create_server((place.host, place.port), family=family)
    except OSError as error:
        raise _refused(place, error) from error


def _refused(place: Place, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            f"`--port` must be a free one, and {place.port} is in use; choose another such as "
            f"`--port {place.port % _HIGHEST_PORT + 1}`, or end what uses it"
        )
    if error.errno == errno.EACCES:
        return SettingsError(
            f"`--port` must be one that you may use, got {place.port}; choose one above 1023"
        )
    return SettingsError(
        f"`--host` must be an address of this machine, got {quoted(place.host)}; leave it out, or "
        "give 0.0.0.0 for all"
    )
