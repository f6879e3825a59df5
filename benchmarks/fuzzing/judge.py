"""What is wrong with how a command ended, whatever it was asked."""

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from benchmarks.fuzzing.materials import Asked, Place
from benchmarks.fuzzing.odd import RAN
from benchmarks.fuzzing.workers import Outcome
from benchmarks.fuzzing.written import check_finished, check_run

LONGEST = 300
"""Characters that a refusal may have."""
_LOCK = "run.lock"
# how libraries put it; what a user wrote himself is in none of the inputs
_FOREIGN = re.compile(
    r"pydantic|jsonargparse|argparse|Traceback|Errno|<class |NoneType|has no attribute|"
    r"invalid literal|unsupported operand|could not convert|codec can't|codec could not|"
    r"Expecting (?:value|property|',')|Extra data|Unterminated string|Invalid control character|"
    r"while scanning|while parsing|mapping values are|expected <block|found character|"
    r"could not (?:determine a constructor|find expected)|expected .{1,20} but found|"
    r"no such (?:table|column)|disk image|file is not a database|datatype mismatch|"
    r"[Ii]nput should be|[Vv]alue error,|Extra inputs are|validation error|Field required|"
    r"[Ee]rror while deserializing|HeaderToo|InvalidHeader|MetadataIncomplete|SafetensorError|"
    r"size mismatch|\[torch\.|torch\.Size|cannot reshape|buffer size|Bad CRC|zip file|"
    r"magic number|allow_pickle|[Uu]npickl|did not match any variant|EOF while|trailing char|"
    r"Arrow|JSON parse error|generating the dataset|tokenizing data|Couldn't find|on the Hub|"
    r"--upgrade transformers|have a `model_type`|AutoConfig|sentencepiece|tiktoken|slow tokenizer|"
    r"object is not (?:call|iter|sub)|KeyError|list index|(?:number|index) out of range|"
    r"must be str|expected str|positional argument|keyword argument|null byte|recursion|"
    r"Exceeds the limit|too large to convert|division by zero"
)


def snapshot(place: Place) -> Mapping[str, str]:
    """Return what lies in an input's folder, with a digest of each file."""
    found = {}
    for path in sorted(place.root.rglob("*")):
        name = str(path.relative_to(place.root))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def faults(
    asked: Asked, outcome: Outcome, place: Place, before: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the kind of each fault, and what it is."""
    text = f"{outcome.out}\n{outcome.err}"
    if outcome.timed_out or outcome.status in {-24, -9}:
        yield "hang", f"{outcome.seconds:.0f} s of a processor{', idle' * outcome.timed_out}"
        return
    signs = ("Traceback (most", "Exception ignored", "Fatal Python", "terminate called")
    traces = [sign for sign in signs if sign in text]
    if traces:
        yield "traceback", outcome.err.strip().rpartition("\n")[2][:200]
    elif outcome.status == 2:
        yield from _sentence_faults(outcome.err, place)
    elif outcome.status:
        yield "status", f"{outcome.status}: {outcome.err.strip()[-200:]}"
    yield from _touched(asked, place, before)
    if outcome.status in {0, 2} and not traces:
        yield from _half_written(asked, outcome, place)


def _sentence_faults(err: str, place: Place) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the sentence that a command was refused in."""
    said = re.sub(rf"{re.escape(str(place.root))}/(?:work/?)?", "", err).replace("\r", "\n")
    said = said.replace(f"{place.materials.root / 'work'}/", "")
    lines = [line for line in said.strip().splitlines() if line.strip()]
    own = [number for number, line in enumerate(lines) if line.startswith("planner: ")]
    if not own:
        yield "no sentence", (lines or ["nothing"])[-1][:200]
        return
    sentence = "\n".join(lines[own[-1] :])
    if len(own) > 1 or "\n" in sentence:
        yield "lines", sentence[:300]
    if len(sentence.removeprefix("planner: ")) > LONGEST:
        yield "long", f"{len(sentence)}: {sentence[:300]}"
    foreign = _FOREIGN.search(sentence)
    if foreign:
        yield "foreign words", f"{foreign[0]!r} in: {sentence[:300]}"


def _touched(asked: Asked, place: Place, before: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    after = snapshot(place)
    may_change = {f"work/{name}" for name in asked.changes}
    logs = ("-wal", "-shm")  # SQLite's own, which readers keep too
    ran = [path for path in (place.root / RAN, place.root.parent / RAN) if path.exists()]
    for path in ran:
        path.unlink()
        yield "touched", "planted code ran"
    for name, digest in before.items():
        places = {name, *map(str, Path(name).parents)}
        if after.get(name) != digest and not (places & may_change or name.endswith(logs)):
            yield "touched", f"{name} {'changed' if name in after else 'removed'}"
    new = after.keys() - before.keys() - {"stdout", "stderr", RAN}
    for name in sorted(new):
        if not name.startswith(("work/", "home/")):
            yield "touched", f"{name} was made"
        elif ".tmp" in Path(name).suffixes or "/.out." in name:
            yield "left over", name


def _half_written(asked: Asked, outcome: Outcome, place: Place) -> Iterator[tuple[str, str]]:
    """Yield what a refused command left, or a finished one did not, under its final name."""
    words = " ".join(asked.words)
    if asked.out is None or re.search(r" --(?:h|print)", words):
        return
    out = place.work / asked.out
    command = asked.words[0]
    try:
        if outcome.status == 0:
            check_finished(command, out)
        elif command in {"search", "compare"}:
            _check_resumable(out)
        elif out.exists():
            yield "half-written", f"{asked.out} holds {sorted(p.name for p in out.iterdir())[:5]}"
    except (OSError, ValueError, KeyError, yaml.YAMLError, sqlite3.Error) as error:
        yield "half-written", f"{type(error).__name__}: {error}"[:200]


def _check_resumable(out: Path) -> None:
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if names - {_LOCK}:
        check_run(out)
