"""Inputs as text: formats, encodings, compressions, broken lines and names of files."""

import bz2
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.fuzzing.materials import TINY_SEARCH, TINY_SPLIT, Asked, Place, prose
from benchmarks.fuzzing.odd import VALUES, damaged, odd_text

_ODD_NAMES = """
notes[1] notes* what? #notes a:b ~notes ~ a;b a,b a&b a%20b a=b -notes --data $HOME {a} 'a' é日🦙
null 1e5 true 2:4 hf: s3: http: owner @x a|b a` a! (a) .hidden a..b CON
"""
_NAMES = [*_ODD_NAMES.split(), "a b", " ", "a\nb", "x" * 200, "\udcff"]
_COMMON = [".txt", ".md", ".jsonl", ".JSONL", ".json", ".ndjson", ".csv", ".tsv", ".parquet"]
_RARE = """
.Parquet .arrow .html .xml .pdf .py .bin .gz .txt.gz .jsonl.gz .json.gz .json.zst .txt.zst .txt.bz2
.txt.xz .zip .tar .xlsx .npy .pkl .gguf
"""
_SUFFIXES = [*_COMMON, *_RARE.split()]
Rows = list[dict[str, Any]]


def texts(place: Place) -> Asked:
    """Return a search, or a split, on odd text."""
    rng = place.rng
    model = str(place.materials.path("Llama"))
    data = _odd_source(place)
    options = [f"--data={data}"] if rng.random() < 0.6 else ["--data", data]
    if rng.random() < 0.25:
        options += [f"--column={rng.choice(('text', 'body', 'n', '', 'TEXT', odd_text(rng)))}"]
    if rng.random() < 0.1:
        options += [f"--split={rng.choice(('test', 'train', '', 'train[:10%]', odd_text(rng)))}"]
    if rng.random() < 0.1:
        options += [f"--holdout={rng.choice((data, 'absent.txt', '', 'work'))}"]
    if rng.random() < 0.25:
        return Asked(words=["to-moe", model, *options, *TINY_SPLIT, "--out=out"], out="out")
    return Asked(words=["search", model, *options, *TINY_SEARCH, "--out=out"], out="out")


def _odd_source(place: Place) -> str:
    """Write a file or a folder of them, and return how it is named."""
    rng = place.rng
    sound_name = rng.random() < 0.4
    suffix = rng.choice(_COMMON if rng.random() < 0.6 else _SUFFIXES)
    stem = "notes" if sound_name else rng.choice(_NAMES)
    name = f"{stem}{suffix}" if rng.random() < 0.9 else stem
    kind = rng.random()
    if kind < 0.06:
        return _saved_set(place)
    if kind < 0.12:
        return rng.choice(
            (odd_text(rng), f"{stem}*{suffix}", "absent.txt", ".", "~", "~/notes.txt")
        )
    place.write(name, _content(suffix, rng))
    if kind < 0.2:
        place.write(f"folder/{stem}{suffix}", _content(suffix, rng))
        place.write(f"folder/more{rng.choice(_SUFFIXES)}", _content(suffix, rng))
        return rng.choice(("folder", "folder/", "./folder", "folder/*"))
    if kind < 0.25:
        (place.work / "link.txt").symlink_to(rng.choice((name, "link.txt", "..")))
        return "link.txt"
    return rng.choice((name, name, f"./{name}", str(place.work / name)))


def _content(suffix: str, rng: random.Random) -> bytes:
    """Return what a file of that suffix holds, perhaps damaged."""
    first, _, last = suffix.lower().lstrip(".").partition(".")
    kind = first if first in _FORMATS else rng.choice(("txt", "txt", "jsonl"))
    rows = [{"n": number, "text": line} for number, line in enumerate(prose(3000).splitlines())]
    data = _FORMATS[kind](_odd_rows(rows, rng), rng)
    if rng.random() < 0.2 and kind != "parquet":
        text = data.decode("utf-8", "replace")
        encoding = rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037"))
        data = f"é {text}".encode(encoding, "replace")
    if rng.random() < 0.15:
        data = damaged(data, rng)
    pack = _PACKED.get(last or first)
    if pack is not None and rng.random() < 0.85:
        data = pack(data)
        data = damaged(data, rng) if rng.random() < 0.2 else data
    return data


def _odd_rows(rows: Rows, rng: random.Random) -> Rows:
    kind = rng.random()
    if kind < 0.4:
        return rows
    if kind < 0.55:
        return rows[: rng.choice((0, 1, 2))]
    place = rng.randrange(len(rows))
    if kind < 0.75:
        rows[place] = {"n": place, "text": rng.choice(VALUES)}
    elif kind < 0.8:
        rows[place] = rng.choice(({}, {"n": 1}, {"text": {"text": "w3"}}, {"other": "w3 w4"}))
    elif kind < 0.9:
        name = rng.choice(("body", "Text", "text ", "", "content", "é", "a\nb", "x" * 300))
        rows = [{"n": row.get("n"), name: row.get("text")} for row in rows]
    else:
        text = rng.choice(
            ("", " ", "\0", "\ud800", "🦙", "w3" * 10**5, "<s></s>", "\x1b[2J", "w3\r")
        )
        rows[place] = {"n": place, "text": text}
    return rows


def _lines(rows: Rows, rng: random.Random) -> bytes:
    lines = [str(row.get("text", "")) for row in rows]
    if rng.random() < 0.2:
        lines.append(rng.choice(("w3 " * 50_000, "\0", "\f", "\u2028", "<pad> <s> </s>", "{}")))
    return rng.choice(("\n", "\n", "\r\n", "\r", " ")).join(lines).encode("utf-8", "surrogatepass")


def _json_lines(rows: Rows, rng: random.Random) -> bytes:
    lines = [json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in rows]
    if lines and rng.random() < 0.3:
        place = rng.randrange(len(lines))
        broken = (
            lines[place][:20],
            "",
            "[]",
            "1",
            "null",
            '"w3 w4"',
            "{",
            "{}{}",
            "NaN",
            "\ufeff{}",
        )
        lines[place] = rng.choice(
            (*broken, "[" * 10_000, lines[place].replace(":", ":" + "9" * 5000))
        )
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _json(rows: Rows, rng: random.Random) -> bytes:
    columns = {name: [row.get(name) for row in rows] for name in ("n", "text")}
    shapes: tuple[Any, ...] = (
        rows,
        rows,
        {"data": rows},
        columns,
        {"rows": {"a": rows}},
        "w3",
        [],
        {},
    )
    kind = rng.random()
    if kind < 0.4:
        return _json_lines(rows, rng)  # as C4 has it
    text = json.dumps(rng.choice(shapes), indent=rng.choice((None, 1)))
    return text.encode()


def _table(separator: str) -> Callable[[Rows, random.Random], bytes]:
    def write(rows: Rows, rng: random.Random) -> bytes:
        names = list(rows[0]) if rows else ["n", "text"]
        mark = rng.choice((separator, separator, ",", ";", "|", "\t"))
        lines = [mark.join(map(str, names))]
        lines += [mark.join(str(row.get(name, "")) for name in names) for row in rows]
        if rng.random() < 0.3:
            lines.insert(
                len(lines) // 2, rng.choice(('"open', f"1{mark}2{mark}3{mark}4", "", '"', "\0"))
            )
        return "\n".join(lines).encode("utf-8", "surrogatepass")

    return write


def _parquet(rows: Rows, rng: random.Random) -> bytes:
    import pandas as pd

    buffer = io.BytesIO()
    kinds: tuple[Any, ...] = (str, str, str, lambda text: [text], lambda text: text.encode(), len)
    make = rng.choice(kinds)
    texts = [make(str(row.get("text", "")).encode("utf-8", "replace").decode()) for row in rows]
    name = rng.choice(("text", "text", "text", "body", ""))
    pd.DataFrame({"n": range(len(texts)), name: texts}).to_parquet(buffer)
    return buffer.getvalue()


def _saved_set(place: Place) -> str:
    import datasets

    lines = prose(3000).splitlines()
    name = place.rng.choice(("text", "text", "body"))
    saved = datasets.Dataset.from_dict({name: lines})
    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    whole: Any = datasets.DatasetDict({"train": saved}) if place.rng.random() < 0.3 else saved
    whole.save_to_disk(str(place.work / "saved"))
    if bars:
        datasets.enable_progress_bars()
    broken = place.rng.random()
    if broken < 0.4:
        found = sorted(path for path in (place.work / "saved").rglob("*") if path.is_file())
        file = found[int(broken / 0.4 * len(found))]
        file.write_bytes(damaged(file.read_bytes(), place.rng))
        place.remarks.append(f"{file.relative_to(place.work)} is damaged")
    return "saved"


def _zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("notes.txt", (2026, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


def _zstd(data: bytes) -> bytes:
    """Pack as Zstandard does what it cannot compress (RFC 8878, 3.1.1): blocks as they are."""
    blocks = [data[start : start + 2**16] for start in range(0, len(data), 2**16)] or [b""]
    frame = b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little")
    for number, block in enumerate(blocks):
        is_last = number == len(blocks) - 1
        frame += (len(block) << 3 | is_last).to_bytes(3, "little") + block
    return frame


_FORMATS: Mapping[str, Callable[[Rows, random.Random], bytes]] = {
    **dict.fromkeys(("txt", "md"), _lines),
    **dict.fromkeys(("jsonl", "ndjson"), _json_lines),
    "json": _json,
    "csv": _table(","),
    "tsv": _table("\t"),
    "parquet": _parquet,
}
_PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": _zstd,
    "zip": _zipped,
}
