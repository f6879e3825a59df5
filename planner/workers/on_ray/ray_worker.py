"""A worker that is an actor on Ray, wherever Ray finds a place for it."""

import pickle
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from planner.settings.worker_devices import WorkerDevices
from planner.workers.messages import Alive, Hired, Refused
from planner.workers.on_ray.ray_actor import OpenDesk, ScoringActor
from planner.workers.own_version import own_version
from planner.workers.worker import Worker

_MOST_LETTERS = 80
"""Of how an actor ended, in Ray's words."""


class RayWorker(Worker):
    """An actor that scores.

    One call of it is open all the time, which returns what it says. What it is told is a call
    that is done at once, and it is given two tasks at most.

    Args:
        open_desk: Opens what it scores; its machine imports it by name.
        spec: What it scores.
        devices: What each worker is to have; it gets that of one.
    """

    def __init__(self, open_desk: OpenDesk, spec: object, devices: WorkerDevices) -> None:
        super().__init__()
        import ray

        actor_class: Any = ray.remote(
            num_cpus=devices.cores,
            num_gpus=int(devices.kind == "cuda"),
            max_restarts=0,  # the pool starts another one
            concurrency_groups={"telling": 1, "listening": 1},  # a thread each keeps the order
        )(ScoringActor)
        self._actor = actor_class.remote()
        self._open_desk = open_desk
        self._hired = Hired(spec=spec, threads=devices.cores)
        self._pid = 0
        self._end = "no sign of life, as where Ray has no place free"
        self._messages: deque[object] = deque()
        self.speaking: Any = self._actor.introduce.remote()
        """Reference to what it says next."""

    @property
    def pid(self) -> int:
        """Number of the process, 0 until it is known; see `Worker`."""
        return self._pid

    @property
    def has_spoken(self) -> bool:
        """Whether messages are here that were not heard."""
        return bool(self._messages)

    def say(self, message: object) -> None:
        """Send a message; see `Worker`."""
        self._tell(self._actor.tell, pickle.dumps(message))

    def hear(self) -> object:
        """Return the next message; see `Worker`."""
        import ray

        if not self._messages:
            try:
                said = ray.get(self.speaking)
            except ray.exceptions.RayError as error:
                self._end = _in_words(error, self.where or " on a machine")
                raise EOFError(self._end) from error
            self._messages += [self._met(said)] if isinstance(said, dict) else said
            self.speaking = self._actor.listen.options(concurrency_group="listening").remote()
        message = self._messages.popleft()
        if isinstance(message, Refused):
            return replace(message, text=f"{self.where.strip()}, {message.text}")
        return message

    def end(self, *, kindly: bool) -> str:  # noqa: ARG002  (it has nothing to put away)
        """End the actor; see `Worker`."""
        import ray

        ray.kill(self._actor)
        return self._end

    def _met(self, introduction: dict[str, Any]) -> object:
        """Let it begin, if its code is ours, and return what it is to be taken to have said."""
        self.where, self._pid = f" on {introduction['host']}", introduction["pid"]
        if introduction["version"] != own_version():
            return Refused(
                text=f"a worker must be of this planner, {own_version()}, got "
                f"{introduction['version']}; install the same on all machines",
                is_mistake=True,
            )
        self._tell(self._actor.begin, self._open_desk, self._hired.threads)
        self.say(self._hired)
        return Alive()

    def _tell(self, method: Any, *arguments: object) -> None:
        method.options(concurrency_group="telling").remote(*arguments)


def wait_for_actors(workers: Sequence[Worker], seconds: float) -> Sequence[Worker]:
    """Return those of some actors that are to be heard; see `Wait`."""
    import ray

    actors = [worker for worker in workers if isinstance(worker, RayWorker)]
    if spoken := [actor for actor in actors if actor.has_spoken]:
        return spoken
    references = [actor.speaking for actor in actors]
    ray.wait(references, timeout=seconds)
    done, _ = ray.wait(references, num_returns=len(references), timeout=0)
    return [actor for actor in actors if actor.speaking in done]


def _in_words(error: Exception, where: str) -> str:
    """Return how an actor ended, which was there."""
    import ray

    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, EOFError):
        return str(error.cause)[:_MOST_LETTERS]  # the end of its own work
    last = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
    if "Worker exit" in last or isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"the end of its process{where}, as when memory runs out"
    return last[:_MOST_LETTERS]
