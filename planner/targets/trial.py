"""What is tried of a written model in a fresh process, where its runtime alone has loaded it.

This module is what that process runs. Requests and answers are files, arrays beside them.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict

from evaluators.latency.workload import Latency, Workload
from planner.targets.target import Served
from planner.targets.target_names import TargetChoice

TURNS = 3
"""In which models are timed one after the other."""
_Folder = Annotated[Path, AfterValidator(Path.absolute)]
"""The process may have begun where we no longer are."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ProofRequest(_File):
    """Ask for what an export computes."""

    kind: Literal["proof"] = "proof"
    target: TargetChoice
    folder: _Folder
    threads: int
    greedy: int
    """Tokens to write after the first half of the first window."""


class ServiceRequest(_File):
    """Ask how well and how fast models are served, side by side."""

    kind: Literal["service"] = "service"
    target: TargetChoice
    folders: dict[str, _Folder]
    """By names such as ``dense`` and ``pruned``."""
    others: dict[str, TargetChoice] = {}
    """Targets of folders that are served in another way than the rest."""
    threads: int
    workload: Workload | None
    """To time; `None`: nothing is timed."""
    turns: int = TURNS
    """Requests to each, of which the median is taken, after a short one that is not counted."""


class ProofAnswer(_File):
    """What an export computes; logits lie beside it."""

    written: list[int]
    """The most probable tokens, one after the other."""


class ServiceAnswer(_File):
    """How well and how fast each model is served."""

    nll: dict[str, list[float]]
    """Of each model the mean negative log-likelihood in each window, in nats a token."""
    kl: dict[str, list[float]]
    """Of each model but the first the mean KL divergence from that in each window, likewise."""
    latency: dict[str, Latency]
    """Of each model the median of the turns; empty: nothing was timed."""


def try_model(request: ProofRequest | ServiceRequest, place: Path) -> None:
    """Do what a request asks for.

    Args:
        request: What to do, with token ids ``(windows, tokens)`` in ``tokens.npy`` of the place.
        place: The folder that gets ``answer.json`` and for a proof ``logits.npz``.
    """
    tokens = np.load(place / "tokens.npy", allow_pickle=False)
    answer = (
        _proof(request, tokens, place)
        if isinstance(request, ProofRequest)
        else _service(request, tokens)
    )
    (place / "answer.json").write_text(answer.model_dump_json(), encoding="utf-8")


def _proof(request: ProofRequest, tokens: NDArray[np.int_], place: Path) -> ProofAnswer:
    target = request.target.make()
    with target.serve(request.folder, threads=request.threads, exact=True) as served:
        np.savez(
            place / "logits.npz",
            whole=served.logits(tokens),
            stepped=served.stepped_logits(tokens),
        )
        prompt = tokens[0, : tokens.shape[1] // 2].tolist()
        return ProofAnswer(written=served.greedy(prompt, request.greedy))


def _service(request: ServiceRequest, windows: NDArray[np.int_]) -> ServiceAnswer:
    targets = {name: request.others.get(name, request.target).make() for name in request.folders}
    with ExitStack() as stack:
        models = {
            name: stack.enter_context(targets[name].serve(folder, threads=request.threads))
            for name, folder in request.folders.items()
        }
        read = [read_window(models, window) for window in windows]
        latency = (
            {} if request.workload is None else _in_turns(models, request.workload, request.turns)
        )
    names = list(models)
    return ServiceAnswer(
        nll={name: [nll[i] for nll, _ in read] for i, name in enumerate(names)},
        kl={name: [kl[i] for _, kl in read] for i, name in enumerate(names) if i},
        latency=latency,
    )


def read_window(
    models: Mapping[str, Served], window: NDArray[np.int_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what models make of the tokens of a window but the first.

    Returns:
        Of each model the mean negative log-likelihood, and the mean KL divergence from the first
        model, both in nats, ``(models,)``.
    """
    logits = [served.logits(window[None])[0, :-1] for served in models.values()]
    nll, kl = np.zeros(len(logits)), np.zeros(len(logits))
    # position by position: in float64 a vocabulary of a window takes gigabytes
    for rows, target in zip(zip(*logits, strict=True), window[1:], strict=True):
        log_probabilities = _log_softmax(np.stack(rows))  # (models, vocabulary)
        nll -= log_probabilities[:, target]
        first = log_probabilities[0]
        kl += (first - log_probabilities) @ np.exp(first)
    return nll / (len(window) - 1), kl / (len(window) - 1)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def _in_turns(models: Mapping[str, Served], workload: Workload, turns: int) -> dict[str, Latency]:
    """Time models in turns, so that a busy machine slows all of them alike."""
    short = workload.model_copy(update={"new_tokens": min(1, workload.new_tokens)})
    for served in models.values():
        served.time(short)
    runs: dict[str, list[Latency]] = {name: [] for name in models}
    for _ in range(turns):
        for name, served in models.items():
            runs[name].append(served.time(workload))
    return {name: Latency.median(latencies) for name, latencies in runs.items()}
