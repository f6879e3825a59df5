"""One file of text: unpacked if it is compressed, decoded, and never read without an end."""

import bz2
import codecs
import gzip
import io
import logging
import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from search_spaces.errors import DataError, quoted

logger = logging.getLogger(__name__)

MOST_CHARACTERS = 2**28
"""Of one source, read from its beginning: a hundred times what is tokenised of it."""
MOST_BYTES = 2**32
"""Of one table, in which other columns stand too."""
_PEEKED = 512
_FLAGS_AT = 6
"""In the head of a member of a zip archive."""
_CONTENTS = (
    (b"\x1f\x8b", "gzip", "let its name end in `.gz`"),
    (b"BZh91AY&SY", "bzip2", "let its name end in `.bz2`"),
    (b"\xfd7zXZ\0", "xz", "let its name end in `.xz`"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", "let its name end in `.zst`"),
    (
        b"PK\x03\x04",
        "a zip archive or an office document",
        "let its name end in `.zip`, or unpack it",
    ),
    (b"PAR1", "parquet", "let its name end in `.parquet`"),
    (b"ARROW1", "an Arrow table", "let its name end in `.arrow`"),
    (b"\xff\xff\xff\xff", "an Arrow table", "let its name end in `.arrow`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it and give the folder"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it and give the folder"),
    (b"\x1f\x9d", "packed by `compress`", "unpack it"),
    (b"\x04\x22\x4d\x18", "packed by LZ4", "unpack it"),
    (b"\x89PNG", "a picture", "write its text to a file"),
    (b"\xff\xd8\xff", "a picture", "write its text to a file"),
    (b"\x89HDF", "an HDF5 table", "write it as parquet"),
    (b"Obj\x01", "an Avro table", "write it as parquet"),
    (b"%PDF-", "a PDF document", "write its text to a file"),
    (b"{\\rtf", "an RTF document", "write its text to a file"),
    (b"\xd0\xcf\x11\xe0", "an office document", "write its text to a file"),
    (codecs.BOM_UTF32_LE, "UTF-32", "convert it, as with `iconv -f utf-32 -t utf-8`"),
    (codecs.BOM_UTF32_BE, "UTF-32", "convert it, as with `iconv -f utf-32 -t utf-8`"),
    (codecs.BOM_UTF16_LE, "UTF-16", "convert it, as with `iconv -f utf-16 -t utf-8`"),
    (codecs.BOM_UTF16_BE, "UTF-16", "convert it, as with `iconv -f utf-16 -t utf-8`"),
)
"""How contents that are no UTF-8 begin, what they are, and what to do about them."""


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """A file, or a member of an archive, that is to be read as text or as a table."""

    name: str
    """As the user knows it."""
    option: str
    """That names it."""
    packed: Callable[[], Any]
    """Opens it as it lies on disk."""

    @property
    def suffix(self) -> str:
        """Of what is in it, in lower case, without that of its compression."""
        path = PurePosixPath(self.name.lower())
        return PurePosixPath(path.stem).suffix if path.suffix in _UNPACKERS else path.suffix

    def text(self) -> str:
        """Return its text, or the beginning of one that is longer than can be used.

        Raises:
            DataError: If it cannot be read, or is no UTF-8.
        """
        with self.opened() as stream:
            self._check_content(stream)
            content = stream.read(MOST_CHARACTERS + 1)
        is_cut = len(content) > MOST_CHARACTERS
        if is_cut:
            tell_of_the_rest(self.name)
        return self._decoded(content[:MOST_CHARACTERS], 1, is_cut=is_cut)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield its lines with their numbers.

        Raises:
            DataError: If it cannot be read, or is no UTF-8.
        """
        with self.opened() as stream:
            self._check_content(stream)
            number = size = 0
            while line := stream.readline(MOST_CHARACTERS + 1):
                number += 1
                if len(line) > MOST_CHARACTERS:
                    raise self.refusal(
                        f"must have lines of at most {MOST_CHARACTERS:,} bytes, and line {number} "
                        f"of {quoted(self.name)} is longer; write each row on a line of its own"
                    )
                yield number, self._decoded(line, number)
                size += len(line)
                if size > MOST_BYTES:
                    tell_of_the_rest(self.name)
                    return

    @contextmanager
    def opened(self) -> Iterator[io.BufferedReader]:
        """Open it, and name it in what goes wrong.

        Raises:
            DataError: If it cannot be read or unpacked.
        """
        try:
            unpack = _UNPACKERS.get(PurePosixPath(self.name.lower()).suffix, _plain)
            with self.packed() as packed, io.BufferedReader(unpack(packed)) as stream:
                yield stream
        except _DAMAGE as error:
            raise unreadable(self.name, self.option, error) from error

    def refusal(self, message: str) -> DataError:
        """Return an error about the option that names this file."""
        return DataError(f"`{self.option}` {message}")

    def _check_content(self, stream: io.BufferedReader) -> None:
        begin = stream.peek(_PEEKED)
        for magic, kind, remedy in _CONTENTS:
            if begin.startswith(magic):
                raise self.refusal(
                    f"must be text, and {quoted(self.name)} is {kind} by its content; {remedy}"
                )
        if begin[257:262] == b"ustar":
            raise self.refusal(
                f"must be text, and {quoted(self.name)} is a tar archive by its content; "
                "unpack it and give the folder"
            )

    def _decoded(self, content: bytes, line: int, *, is_cut: bool = False) -> str:
        """Decode bytes that begin with a line of this number, and may end amid a character."""
        if (zero := content.find(b"\0")) >= 0:
            raise self.refusal(
                f"must be text, and {quoted(self.name)} is binary, with a zero byte in line "
                f"{line + _line_ends(content, zero)}; give text, JSONL, CSV or parquet"
            )
        try:
            text, _ = codecs.utf_8_decode(content, "strict", not is_cut)
        except UnicodeDecodeError as error:
            start = content.rfind(b"\n", 0, error.start) + 1
            raise self.refusal(
                f"must be UTF-8, and {quoted(self.name)} is not, at byte "
                f"{error.start - start + 1} of line {line + _line_ends(content, error.start)}; "
                "convert it, as with `iconv -f latin1 -t utf-8`"
            ) from error
        return text.removeprefix("\ufeff") if line == 1 else text


def _line_ends(content: bytes, end: int) -> int:
    return content.count(b"\n", 0, end)


def tell_of_the_rest(name: str) -> None:
    """Say that a source is longer than what is read of it."""
    logger.info(
        "only the beginning of %s is read, up to %s characters of text",
        quoted(name),
        f"{MOST_CHARACTERS:,}",
    )


def unreadable(name: str, option: str, error: Exception) -> DataError:
    """Return the error over a file that cannot be read, or not be unpacked."""
    if isinstance(error, OSError) and error.errno is not None:
        reasons = {
            PermissionError: ("you have no permission to read it", "check its mode and folders"),
            FileNotFoundError: ("it is gone", "check the path"),
        }
        plain = (str(error.strerror).lower(), "check the path and its disk")
        reason, remedy = reasons.get(type(error), plain)
    else:
        reason = "it is cut off, damaged or not packed as its name says"
        remedy = "get a sound copy, or give it the name of what it is"
    return DataError(f"`{option}` must be readable, and {quoted(name)} is not: {reason}; {remedy}")


_DAMAGE = (OSError, EOFError, NotImplementedError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What is raised for bytes that cannot be unpacked; not implemented: another method of zip."""


def text_files(path: Path, option: str) -> Iterator[TextFile]:
    """Yield the file at a path, or those of the archive there.

    Raises:
        DataError: If it is a pipe, a device or an archive that cannot be read.
    """
    name = str(path)
    try:
        is_ordinary = stat.S_ISREG(path.stat().st_mode)
        if is_ordinary and path.suffix.lower() == ".zip":
            yield from _members(path, option)
            return
    except (OSError, zipfile.BadZipFile) as error:
        raise unreadable(name, option, error) from error
    if not is_ordinary:
        raise DataError(
            f"`{option}` must be a file or a folder, and {quoted(name)} is a pipe or a device; "
            "write its text to a file first"
        )
    yield TextFile(name=name, option=option, packed=lambda: path.open("rb"))


def _members(path: Path, option: str) -> Iterator[TextFile]:
    """Yield the files of a zip archive, in the order of their names, but for hidden ones."""
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            parts = PurePosixPath(member.filename).parts
            if member.is_dir() or any(part != ".." and _is_hidden(part) for part in parts):
                continue
            name = f"{path}/{member.filename}"
            if _is_encrypted(path, member):
                raise DataError(
                    f"`{option}` must be readable, and {quoted(name)} is encrypted; unpack it "
                    "with its password and give the folder"
                )
            yield TextFile(name=name, option=option, packed=partial(archive.open, member))


def _is_hidden(part: str) -> bool:
    return part.startswith((".", "__MACOSX"))


def _is_encrypted(path: Path, member: zipfile.ZipInfo) -> bool:
    """Return whether the table of an archive or the head of a member itself says so."""
    with path.open("rb") as file:
        file.seek(member.header_offset + _FLAGS_AT)
        flags = int.from_bytes(file.read(2), "little")
    return bool((flags | member.flag_bits) & 1)


def _plain(packed: Any) -> Any:
    return packed


def _zstandard(packed: Any) -> Any:
    import pyarrow  # noqa: PLC0415  (its Zstandard, for Python's own came with 3.14)

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(packed, mode="r"), "zstd")


_UNPACKERS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda packed: gzip.GzipFile(fileobj=packed),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _zstandard,
    ".zstd": _zstandard,
}
