import bz2
import gzip
import json
import logging
import lzma
import os
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from evaluators.data import text_files
from evaluators.data.documents import read_documents
from search_spaces.errors import DataError

DOCUMENTS = ["First, one.", "Second: «zwei».\nOn two lines."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "texts"
    found.mkdir()
    return found


def table() -> pd.DataFrame:
    return pd.DataFrame({"id": [1, 2], "text": DOCUMENTS})


def rows() -> list[dict[str, object]]:
    return [{"id": number, "text": document} for number, document in enumerate(DOCUMENTS)]


def in_lines() -> str:
    return "".join(json.dumps(row) + "\n" for row in rows())


def refusal(data: object, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        read_documents(str(data), **options)
    message = str(caught.value)
    assert len(message) <= 300
    assert message.isprintable()
    assert ";" in message
    return message


def zstandard(content: bytes) -> bytes:
    packed: bytes = pyarrow.compress(content, codec="zstd", asbytes=True)
    return packed


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard,
}


@pytest.mark.parametrize("name", ["corpus.txt", "README", "notes.md", "code.py", "v1.2"])
def test_plain_text_is_one_document(name: str, folder: Path) -> None:
    (folder / name).write_text("Grüße.\r\n\nEnd.", encoding="utf-8", newline="")
    assert read_documents(str(folder / name)) == ["Grüße.\r\n\nEnd."]


@pytest.mark.parametrize(
    "name",
    [
        "[1].txt",
        "*",
        "what?.txt",
        "#a.txt",
        "a:b",
        ":",
        "~a.txt",
        " a b ",
        "null",
        "1e5",
        "a: b.t",
    ],
)
def test_what_exists_is_a_file_whatever_its_name(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "1.txt").write_text("another")
    (folder / name).write_text("word")
    assert read_documents(name) == ["word"]
    assert read_documents(str(folder / name)) == ["word"]


def test_a_folder_with_odd_signs_is_a_folder(folder: Path) -> None:
    (folder / "v").mkdir()
    (folder / "sets [v1]").mkdir()
    (folder / "sets [v1]" / "a.txt").write_text("word")
    assert read_documents(str(folder / "sets [v1]")) == ["word"]
    assert read_documents(str(folder / "sets [v1]" / "*.txt")) == ["word"]


def test_a_pattern_reads_what_it_matches_and_says_so(folder: Path, notices: list[str]) -> None:
    for name in ("b1", "b2", "c3", ".b4"):
        (folder / f"{name}.txt").write_text(name)
    assert read_documents(str(folder / "b*.txt")) == ["b1", "b2"]
    assert any("is a pattern" in line and "b1.txt" in line for line in notices)
    assert "a pattern of no file" in refusal(folder / "x*.txt")


def test_the_home_folder_may_be_a_tilde(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "a.txt").write_text("word")
    assert read_documents("~/a.txt") == ["word"]
    assert read_documents("~/*.txt") == ["word"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("nowhere/corpus.txt", "got `nowhere/corpus.txt`; check the path"),
        ("./corpus", "must be a file that exists"),
        ("/no/corpus", "must be a file that exists"),
        ("~/no-corpus", "must be a file that exists"),
        ("~no.such.user/x.txt", "nobody called `no.such.user` has a home"),
        ("a.txt/b.txt", "must be a file that exists"),
        (":", "must be a file that exists"),
        ("::", "must be a file that exists"),
        ("a b/c", "must be a file that exists"),
        ("", "got none"),
        (" \t", "got none"),
        ("x" * 300, "must be readable, and `x+…x+` is not: file name too long"),
        ("x/" * 3000, "file name too long"),
        ("a\0b", "holds a sign that no path may"),
        ("a\nb.txt", "must be a file that exists, got `a�b.txt`"),
        ("a\ud800b", "holds a sign that no path may"),
        ("/dev/null", "is a pipe or a device"),
    ],
)
def test_a_name_of_nothing_is_refused(
    data: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "a.txt").write_text("word")
    message = refusal(data, option="--holdout")
    assert message.startswith("`--holdout` must be ")
    assert re.search(said, message)


def test_a_pipe_is_refused_at_once(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jsonl")
    assert "is a pipe or a device" in refusal(folder / "pipe.jsonl")
    (folder / "a.txt").write_text("word")
    assert read_documents(str(folder)) == ["word"]


def test_a_circle_of_links_is_refused(folder: Path) -> None:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    assert "too many levels of symbolic links" in refusal(folder / "a")


def test_files_that_may_not_be_read_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", "x")

    (folder / "a.txt").touch()
    for name in ("stat", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, denied)
            assert "is not: you have no permission to read it; check" in refusal(folder / "a.txt")
    monkeypatch.setattr(os, "scandir", denied)
    assert "you have no permission to read it" in refusal(folder)


def test_a_folder_gives_all_its_files_in_order(folder: Path) -> None:
    (folder / "c").mkdir()
    (folder / "c" / "late.txt").write_text("last")
    (folder / "b.csv").write_text("text\nmiddle\n")
    (folder / "a.txt").write_text("first")
    assert read_documents(str(folder)) == ["first", "middle", "last"]


def test_hidden_files_of_a_folder_are_no_text(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "index").write_bytes(b"\x00")
    (folder / ".DS_Store").write_bytes(b"\x00")
    (folder / "a.txt").write_text("word")
    assert read_documents(str(folder)) == ["word"]


@pytest.mark.parametrize("make", ["folder", "file", "blank", "a.jsonl", "a.csv", "header.csv"])
def test_what_holds_no_words_is_refused_as_empty(make: str, folder: Path) -> None:
    content = {"blank": " \n\t\n", "header.csv": "id,text\n"}
    if make != "folder":
        (folder / make).write_text(content.get(make, ""))
    data = folder if make == "folder" else folder / make
    assert re.search(r"must hold words, and `.*` is empty; give another", refusal(data))


FORMATS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_text(in_lines()),
    "A.JSONL": lambda path: path.write_text(in_lines()),
    "a.ndjson": lambda path: path.write_text(in_lines().replace("\n", "\r\n\r\n")),
    "lines.json": lambda path: path.write_text(in_lines()),
    "array.json": lambda path: path.write_text(json.dumps(rows())),
    "array.jsonl": lambda path: path.write_text(json.dumps(rows(), indent=1)),
    "indented.Json": lambda path: path.write_text(json.dumps(rows(), indent=2)),
    "data.json": lambda path: path.write_text(json.dumps({"n": 2, "data": rows()}, indent=1)),
    "one_line.json": lambda path: path.write_text(json.dumps({"rows": rows()})),
    "columns.json": lambda path: path.write_text(json.dumps({"text": DOCUMENTS})),
    "marked.jsonl": lambda path: path.write_text(in_lines(), encoding="utf-8-sig"),
    "a.parquet": lambda path: table().to_parquet(path),
    "A.PARQUET": lambda path: table().to_parquet(path),
    "a.feather": lambda path: table().to_feather(path),
    "a.csv": lambda path: table().to_csv(path, index=False),
    "marked.csv": lambda path: table().to_csv(path, index=False, encoding="utf-8-sig"),
    "semicolons.csv": lambda path: table().to_csv(path, index=False, sep=";"),
    "tabs.CSV": lambda path: table().to_csv(path, index=False, sep="\t"),
    "bars.csv": lambda path: table().to_csv(path, index=False, sep="|"),
    "a.tsv": lambda path: table().to_csv(path, index=False, sep="\t"),
    "windows.csv": lambda path: table().to_csv(path, index=False, lineterminator="\r\n"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_tables_give_a_document_for_each_row(name: str, folder: Path) -> None:
    FORMATS[name](folder / name)
    assert read_documents(str(folder / name)) == DOCUMENTS


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", ["a.txt", "c4.json", "a.JSONL", "a.csv", "a.parquet"])
def test_compressed_files_are_read_as_what_is_in_them(
    name: str, packing: str, folder: Path
) -> None:
    match name:
        case "a.txt":
            content = "\n".join(DOCUMENTS).encode()
        case "a.csv":
            content = table().to_csv(index=False).encode()
        case "a.parquet":
            content = table().to_parquet()
        case _:
            content = in_lines().encode()
    path = folder / f"{name}.{packing}"
    path.write_bytes(PACKED[packing](content))
    expected = ["\n".join(DOCUMENTS)] if name == "a.txt" else DOCUMENTS
    assert read_documents(str(path)) == expected


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("damage", ["cut", "plain"])
def test_a_compressed_file_that_is_none_or_is_cut_is_refused(
    packing: str, damage: str, folder: Path
) -> None:
    path = folder / f"a.jsonl.{packing}"
    content = in_lines().encode()
    path.write_bytes(content if damage == "plain" else PACKED[packing](content)[:-9])
    assert "it is cut off, damaged or not packed as its name says" in refusal(path)


def test_an_archive_is_read_like_a_folder(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.ZIP", "w") as archive:
        archive.writestr("b/b.jsonl", in_lines())
        archive.writestr("a.txt", "first")
        archive.writestr("c.txt.gz", gzip.compress(b"last"))
        archive.writestr(".hidden", b"\0")
        archive.writestr("__MACOSX/b", b"\0")
        archive.mkdir("d")
    assert read_documents(str(folder / "a.ZIP")) == ["first", *DOCUMENTS, "last"]
    (folder / "a.ZIP").write_bytes((folder / "a.ZIP").read_bytes()[:40])
    assert "cut off, damaged" in refusal(folder / "a.ZIP")


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv", "parquet"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(b"word", mtime=0), "gzip by its content"),
        (bz2.compress(b"word"), "bzip2 by its content"),
        (lzma.compress(b"word"), "xz by its content"),
        (zstandard(b"word"), "Zstandard by its content"),
        (table().to_parquet(), "parquet by its content"),
        (b"PK\x03\x04" + b"\0" * 30, "a zip archive"),
        (b"%PDF-1.7\n", "a PDF document"),
        ("word".encode("utf-16"), "UTF-16 by its content.*iconv -f utf-16"),
        ("word".encode("utf-32"), "UTF-32 by its content"),
        (b"a" * 257 + b"ustar\x0000", "a tar archive"),
        (b"\x89PNG\r\n\x1a\n" * 9, "a picture by its content"),
        (b"7z\xbc\xaf\x27\x1c" * 9, "a 7-Zip archive by its content; unpack it"),
        (b"\x89HDF\r\n\x1a\n" * 9, "an HDF5 table by its content; write it as parquet"),
        (b"\x89odd\r\n\x1a\n" * 9, "UTF-8, and .* byte 1 of line 1"),
        (b"ok\nSQLite format 3\0 and more", "zero byte in line 2"),
        ("fine\nÄrger über Öl\n".encode("latin-1"), "UTF-8.* byte 1 of line 2.*iconv"),
    ],
)
def test_what_is_no_text_is_named(content: bytes, said: str, suffix: str, folder: Path) -> None:
    path = folder / f"a.{suffix}"
    path.write_bytes(content)
    if suffix == "parquet":
        if "parquet" not in said:
            assert "damaged" in refusal(path)
        return
    if suffix == "csv" and "UTF-8" in said:
        said = "UTF-8"
    assert re.search(said, refusal(path)) or (suffix == "jsonl" and "JSON" in refusal(path))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": "b', "line 2 .* a string does not end at sign 10"),
        ("a.jsonl", '{"text": "a"}\n\n{"text" "b"}', "line 3 .* a colon is missing"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"} x', "line 2 .* something follows its end"),
        ("a.jsonl", '{"text": "a",\n', "line 1 .* in double quotes is missing"),
        ("a.jsonl", '{"text": "a"}\n{"text": nul}', "line 2 .* a value is missing"),
        ("a.jsonl", '{"text": "a"}\n{"text": "\\x"}', "line 2 .* a backslash"),
        ("a.json", '[{"text": "a"},\n {"text": "b"}\n {}]', "line 3 .* a comma or its end"),
        ("a.json", '{"text": "unfinished', "line 1 .* a string does not end"),
        ("a.json", '"a"\n"b"', "line 2 .* something follows its end"),
        ("a.jsonl", "[" * 100_000, "line 1 .* nested too deep"),
        ("a.jsonl", '{"text": "a"}\n' + '{"a":' * 100_000, "line 2 .* nested too deep"),
        ("a.jsonl", '{"text": "a"}\n"b"\n', "line 2 of .* holds a string"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', "line 2 of .* holds a list"),
        ("a.jsonl", "null\n", "line 1 of .* holds null"),
        ("a.json", '["a", "b"]', "row 1 of .* holds a string"),
        ("a.json", "17", "row 1 of .* holds a number"),
        ("a.jsonl", '{"text": ["a"]}', "`text` holds a list in line 1"),
        ("a.jsonl", '{"text": "a"}\n{"text": 7}', "`text` holds a number in line 2"),
        ("a.jsonl", '{"text": {"de": "a"}}', "`text` holds an object in line 1"),
        ("a.jsonl", '{"text": true}', "`text` holds a truth value in line 1"),
        ("a.jsonl", '{"text": [{"role": "user"}]}', "holds a list of messages in line 1"),
        ("a.jsonl", '{"text": "a"}\n{"text": "\\ud800"}', "line 2 of .* half of a surrogate pair"),
        ("a.csv", "id,body\n", "must be one of `id, body`"),
        ("a.csv", "id,text\n1,2\n2,3.5\n", "`text` holds a number in each row"),
        ("a.csv", 'id,text\n1,a\n2,"b\n3,c', "row in line 3 of .* a quote does not close"),
        ("a.csv", "id,text\n1,a\n2,b, and c\n", "line 3 of .* has 3 where the header names 2"),
        ("a.parquet", "", "damaged"),
        ("a.arrow", "nothing of the kind", "damaged"),
        ("state.json", '{"_data_files": []}', "must hold words"),
    ],
)
def test_a_broken_table_is_refused_with_line_and_reason(
    name: str, content: str, said: str, folder: Path
) -> None:
    (folder / name).write_text(content)
    data = folder if name == "state.json" else folder / name
    message = refusal(data)
    assert re.search(said, message)
    assert not re.search("Expecting|delimiter|Arrow|Magic|Unterminated|codec", message)


def test_integers_of_any_length_stand_in_other_columns(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"n": ' + "9" * 5000 + ', "text": "word"}')
    assert read_documents(str(folder / "a.jsonl")) == ["word"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.feather"])
def test_a_missing_column_is_refused_with_those_there_are_and_the_likely_one(
    name: str, folder: Path
) -> None:
    path, frame = folder / name, table().rename(columns={"text": "body"})
    match path.suffix:
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        case ".parquet":
            frame.to_parquet(path)
        case ".feather":
            frame.to_feather(path)
        case suffix:
            frame.to_csv(path, index=False, sep="," if suffix == ".csv" else "\t")
    message = refusal(path)
    assert re.search("`--column` must be one of `id, body` in .*, got `text`; set `--col", message)
    assert message.endswith("to `body`")
    assert refusal(path, column="bode").endswith("did you mean `body`?")
    assert read_documents(str(path), column="body") == DOCUMENTS


def test_a_refused_column_fits_into_a_sentence_whatever_the_table_holds(folder: Path) -> None:
    many = {f"{number} column of a long name": "word" for number in range(300)}
    (folder / "a.jsonl").write_text(json.dumps(many))
    refusal(folder / "a.jsonl", column="y" * 500)


def test_rows_without_words_are_left_out(folder: Path) -> None:
    (folder / "a.csv").write_text('text,n\none,1\n"",2\n"  ",3\ntwo\n\nNA,4\n')
    assert read_documents(str(folder / "a.csv")) == ["one", "two", "NA"]
    (folder / "a.jsonl").write_text('{"text": null}\n{"n": 1}\n{"text": "one"}\n{"text": ""}\n')
    assert read_documents(str(folder / "a.jsonl")) == ["one"]


def test_a_table_of_long_lines_or_old_line_ends_is_read(folder: Path) -> None:
    (folder / "a.csv").write_text("id,text\r1,one\r2,two\r", newline="")
    assert read_documents(str(folder / "a.csv")) == ["one", "two"]
    (folder / "b.csv").write_text(f"text,{'x' * 200_000}\none,1\n")
    assert read_documents(str(folder / "b.csv")) == ["one"]


def test_an_archive_packed_by_an_unknown_method_is_refused(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("a.txt", "word")
    content = (folder / "a.zip").read_bytes()
    local, central = content.index(b"PK\x03\x04") + 8, content.index(b"PK\x01\x02") + 10
    odd = bytearray(content)
    odd[local] = odd[central] = 9  # Deflate64
    (folder / "a.zip").write_bytes(odd)
    assert "not packed as its name says" in refusal(folder / "a.zip")


def test_a_member_of_an_archive_may_lead_outside_for_it_is_read_and_not_unpacked(
    folder: Path,
) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("../a.txt", "one")
        archive.writestr("../.hidden/b.txt", "two")
    assert read_documents(str(folder / "a.zip")) == ["one"]


def test_of_columns_of_one_name_the_first_is_read(folder: Path) -> None:
    cells = [pyarrow.array(["one"]), pyarrow.array(["two"])]
    parquet.write_table(pyarrow.table(cells, ["text", "text"]), folder / "a.parquet")
    (folder / "a.csv").write_text("text,text\none,two\n")
    for name in ("a.parquet", "a.csv"):
        assert read_documents(str(folder / name)) == ["one"]


def test_an_address_is_not_fetched(folder: Path) -> None:
    assert "`s3://mine/a.jsonl`, and addresses are not fetched" in refusal("s3://mine/a.jsonl")


@pytest.mark.parametrize(("mark", "flags_at"), [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)])
def test_an_archive_is_encrypted_if_its_table_or_a_member_says_so(
    folder: Path, mark: bytes, flags_at: int
) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("a.txt", "word")
    content = bytearray((folder / "a.zip").read_bytes())
    content[content.index(mark) + flags_at] |= 1
    (folder / "a.zip").write_bytes(content)
    assert "a.zip/a.txt` is encrypted; unpack it" in refusal(folder / "a.zip")


def saved(folder: Path, files: list[str]) -> None:
    """Write what `save_to_disk` of `datasets` writes."""
    folder.mkdir(parents=True)
    for name in files:
        batch = pyarrow.table({"id": [1, 2], "text": DOCUMENTS})
        with pyarrow.ipc.new_stream(folder / name, batch.schema) as stream:
            stream.write_table(batch)
    state = {"_data_files": [{"filename": name} for name in files], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def test_folders_of_save_to_disk_are_read(folder: Path) -> None:
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    saved(folder / "one", names)
    assert read_documents(str(folder / "one"), split="test") == DOCUMENTS * 2
    for split in ("train", "validation"):
        saved(folder / "several" / split, names[:1])
    content = json.dumps({"splits": ["train", "validation"]})
    (folder / "several" / "dataset_dict.json").write_text(content)
    assert read_documents(str(folder / "several")) == DOCUMENTS
    assert read_documents(str(folder / "several"), split="validation") == DOCUMENTS
    message = refusal(folder / "several", split="valid")
    assert re.search("`--split` must be one of `train, validation`.*did you mean `val", message)


@pytest.mark.parametrize(
    "state",
    [
        *("", "[]", "{}", '{"_data_files": 3}', '{"_data_files": [3]}', '{"_data_files": "a"}'),
        *(
            json.dumps({"_data_files": [{"filename": name}]})
            for name in ("/etc/passwd", "..", ".", "", "a\0", "\ud800")
        ),
    ],
)
def test_a_saved_folder_that_is_damaged_or_leads_elsewhere_is_refused(
    state: str, folder: Path
) -> None:
    saved(folder / "one", ["a.arrow"])
    (folder / "one" / "state.json").write_text(state)
    assert "must be a sound folder of `save_to_disk`" in refusal(folder / "one")


def test_a_saved_folder_without_splits_is_refused(folder: Path) -> None:
    (folder / "dataset_dict.json").write_text('{"splits": []}')
    assert "must be a data set with splits, and" in refusal(folder)


def test_a_saved_folder_that_lacks_a_file_names_it(folder: Path) -> None:
    saved(folder / "one", ["a.arrow"])
    (folder / "one" / "a.arrow").unlink()
    assert re.search("a.arrow` is not: it is gone", refusal(folder / "one"))


def test_no_more_is_read_than_can_be_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    monkeypatch.setattr(text_files, "MOST_CHARACTERS", 1000)
    monkeypatch.setattr("evaluators.data.documents.MOST_CHARACTERS", 1000)
    (folder / "a.txt").write_text("ü" * 5000)
    assert read_documents(str(folder / "a.txt")) == ["ü" * 500]
    (folder / "a.jsonl").write_text(('{"text": "' + "x" * 90 + '"}\n') * 100 + "{broken")
    assert len(read_documents(str(folder / "a.jsonl"))) == 12
    assert len(notices) == 2
    assert all("is read, up to 1,000 characters of text" in line for line in notices)
    (folder / "line.jsonl").write_text('{"text": "' + "x" * 2000)
    assert "and line 1 of" in refusal(folder / "line.jsonl")


def test_a_large_table_is_not_searched_to_its_end_for_a_column(
    folder: Path, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    (folder / "a.jsonl").write_text('{"body": "word"}\n' * 1100 + "{broken")
    assert "must be one of `body`" in refusal(folder / "a.jsonl")
    monkeypatch.setattr(text_files, "MOST_BYTES", 500)
    (folder / "b.jsonl").write_text('{"text": "word"}\n' * 40 + "{broken")
    assert len(read_documents(str(folder / "b.jsonl"))) == 30
    assert len(notices) == 1


def test_a_small_file_that_unpacks_to_a_large_one_is_read_to_the_same_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "MOST_CHARACTERS", 1000)
    (folder / "a.txt.gz").write_bytes(gzip.compress(b"word " * 1_000_000, compresslevel=1))
    assert read_documents(str(folder / "a.txt.gz")) == ["word " * 200]


def test_local_tables_need_no_data_sets_library(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        FORMATS[name](folder / name)
        assert read_documents(str(folder / name)) == DOCUMENTS
