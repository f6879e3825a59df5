"""One way for all exports: stage, write, load in a fresh process, prove, describe, rename."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from planner.export.proof import Proof, proof_of
from planner.export.reference import Reference, Score
from planner.export.staging import check_room
from planner.targets.fresh_process import FreshProcess, fresh_process
from planner.targets.target import Target, Written
from planner.targets.trial import ProofRequest
from search_spaces.atomic_files import publish, scratch_beside
from search_spaces.errors import VerificationError
from search_spaces.models.tensor_files import writing_tensors
from search_spaces.progress import Progress

CARD, MANIFEST = "README.md", "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Staged:
    """An export that is written and proved, and has not got its name yet."""

    folder: Path
    scratch: Path
    """Where more may be written; it vanishes."""
    written: Written
    proof: Proof
    process: FreshProcess
    threads: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be exported, and what it must compute."""

    target: Target
    write: Callable[[Target, Path], Written]
    """Writes it into a folder that is there and empty."""
    weight_bytes: int
    """What it will take of the disk, about."""
    reference: Reference
    follow: Score
    """The logits of what is written, as it is here, on any tokens."""
    threads: int
    locate: Callable[[Target, Path], str] | None = None
    """Finds which layer is at fault, in words, if a target computes something else."""
    stage_for_proof: Callable[[Path, Path], Path] = lambda folder, _: folder
    """Returns what is to be proved in the place of a folder, made in a scratch folder."""


def export_proved(
    job: Job, out: Path, describe: Callable[[Staged], tuple[str, str]], progress: Progress
) -> None:
    """Make an export; its folder has its name once it was proved and described, or is not there.

    Args:
        job: What is exported.
        out: The folder to make.
        describe: Measures what is to be told of it, and returns its card in Markdown, and its
            manifest in JSON.
        progress: Receives stages.

    Raises:
        OutputError: If it cannot be written.
        VerificationError: If it does not compute what it must.
    """
    check_room(out, job.weight_bytes)
    process = fresh_process(job.target)
    with scratch_beside(out) as scratch:
        folder = scratch / out.name
        with writing_tensors(out):
            folder.mkdir()
            written = job.write(job.target, folder)
        progress.stage(f"proving in {job.target.runtime} that it computes what was scored")
        proof = _prove(job, folder, scratch, process)
        staged = Staged(
            folder=folder,
            scratch=scratch,
            written=written,
            proof=proof,
            process=process,
            threads=job.threads,
        )
        with writing_tensors(out):
            card, manifest = describe(staged)
            (folder / CARD).write_text(card, encoding="utf-8")
            (folder / MANIFEST).write_text(manifest, encoding="utf-8")
            publish(folder, out)


def _prove(job: Job, folder: Path, scratch: Path, process: FreshProcess) -> Proof:
    """Prove what was written, or what its target writes of the same without loss.

    Raises:
        VerificationError: If it computes something else; the layer at fault is named.
    """
    target, proved = job.target.proof_variant, folder
    if target.choice != job.target.choice:
        proved = scratch / "without-loss"
        with writing_tensors(proved):
            proved.mkdir()
            job.write(target, proved)
    staged = job.stage_for_proof(proved, scratch)
    request = ProofRequest(
        target=target.choice,
        folder=staged,
        threads=job.threads,
        greedy=job.reference.room,
    )
    answer, whole, stepped = process.prove(request, job.reference.tokens.numpy())
    proof = proof_of(
        job.reference,
        whole,
        stepped,
        answer.written,
        follow=job.follow,
        tolerance=target.tolerance,
    )
    try:
        proof.insist(target.runtime)
    except VerificationError as error:
        if job.locate is None:
            raise
        raise VerificationError(f"{error}; {job.locate(target, scratch)}") from error
    if proved != folder:
        job.target.check_variant(folder, proved)
    return proof
