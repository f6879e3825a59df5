"""Ray itself: whether it is there, answers and has the devices, and a connection to it."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec

import torch

from evaluators.runtime.device import pick_device
from planner.settings.search import SearchSettings
from planner.settings.worker_devices import WorkerDevices
from search_spaces.errors import MissingExtraError, RunError, SettingsError
from search_spaces.suggestions import shown

_ANSWER_SECONDS = 3.0
_STORE_BYTES = 2**28
"""For what is under way, which is small."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_worker_niceness": "0",  # Ray's own 15 lets workers starve where others compute
}
"""Of a Ray that is started here, unless the user has it otherwise."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""Of HTTP/2, which Ray speaks: its preface, and a frame of settings, as the answer begins too."""
_KIND_OF_FRAME = 3


def check_ray(settings: SearchSettings) -> None:
    """Refuse to score on Ray where that cannot be.

    Raises:
        MissingExtraError: If Ray is not installed.
        SettingsError: If the cluster does not answer, or has not the devices.
    """
    devices = settings.worker_devices
    assert devices is not None, "settings were checked"
    if find_spec("ray") is None:
        raise MissingExtraError("ray", "ray", "`--workers ray`")
    kind = pick_device(settings.device).partition(":")[0]
    if kind != devices.kind:
        raise SettingsError(
            f"`worker_devices` must be of the kind that the search computes on, {kind}, got "
            f"{devices}; set `--device` too, for scores of two kinds are not comparable"
        )
    if settings.ray is not None:
        with ray_cluster(settings.ray):
            check_places(devices)
    elif (
        places := devices.places(os.cpu_count() or 1, torch.cuda.device_count())
    ) < devices.count:
        raise _lacking(devices, places, "this machine")


def check_places(devices: WorkerDevices) -> None:
    """Refuse more workers than the cluster has devices for, whoever uses them now.

    Raises:
        SettingsError: If there are.
    """
    import ray

    places = sum(
        devices.places(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    )
    if places < devices.count:
        raise _lacking(devices, places, "the Ray cluster")


def _lacking(devices: WorkerDevices, places: int, where: str) -> SettingsError:
    return SettingsError(
        f"`worker_devices` must be there, got {devices}, and {where} has room for {places} of "
        f"these; lower `--worker_devices`"
    )


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connect to Ray, and leave it afterwards, unless this process was connected before.

    Args:
        address: Of the cluster; None: Ray is started on this machine, and ended.

    Raises:
        SettingsError: If it does not answer, or this machine does not belong to it.
        RunError: If Ray does not start.
    """
    import ray

    if address is not None:
        check_answers(address)
    if ray.is_initialized():
        yield
        return
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # what it would print of workers that died comes among a command's results; the pool says it
    ray._private.worker._worker_logs_enabled = False
    try:
        with _own_signals():
            _connect(address)
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    import ray

    options = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init(
                "local",
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                **options,
            )
        else:
            ray.init(address, **options)
    except Exception as error:  # Ray raises any
        said = " ".join(str(error).split())[:100]
        if address is None:
            raise RunError(f"Ray must start on this machine, got: {said}; see its logs") from error
        raise SettingsError(
            f"`ray` must be a cluster that this machine belongs to, got {shown(address)}: {said}; "
            "run `ray start` here first"
        ) from error


def check_answers(address: str) -> None:
    """Refuse an address at which no Ray answers; Ray itself would wait for minutes.

    Raises:
        SettingsError: If none does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise SettingsError(
            f"`ray` must be HOST:PORT, as `ray start` prints it, got {shown(address)}; write it so"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as line:
            line.settimeout(_ANSWER_SECONDS)
            line.sendall(_GREETING)
            answer = line.recv(len(_GREETING))
    except (OSError, UnicodeError) as error:
        raise _silent(address, str(error)) from error
    is_encrypted = os.environ.get("RAY_USE_TLS") == "1"  # and says nothing in plain words
    if not is_encrypted and answer[_KIND_OF_FRAME : _KIND_OF_FRAME + 1] != b"\x04":
        raise _silent(address, "another service")


def _silent(address: str, got: str) -> SettingsError:
    return SettingsError(
        f"`ray` must be the address of a Ray cluster that answers, got {shown(address)}: {got}; "
        "start one by `ray start --head`, or leave out `--ray`"
    )


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep who is told of signals, whatever is set meanwhile."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread, in which nothing was set
            for number, handler in before.items():
                signal.signal(number, handler)
