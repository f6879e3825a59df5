import json
import re
from pathlib import Path

import datasets
import huggingface_hub.constants
import pandas as pd
import pytest

from evaluators.data.documents import read_documents
from search_spaces.errors import DataError

DOCUMENTS = ["First, one.", "Second: «zwei».\nOn two lines."]


@pytest.fixture(autouse=True)
def no_network_and_no_cache_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "texts"
    found.mkdir()
    return found


def table() -> pd.DataFrame:
    return pd.DataFrame({"id": [1, 2], "text": DOCUMENTS})


def refusal(data: object, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        read_documents(str(data), **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["corpus.txt", "README", "notes.md"])
def test_plain_text_is_one_document(name: str, folder: Path) -> None:
    (folder / name).write_text("Grüße.\n\nEnd.", encoding="utf-8")
    assert read_documents(str(folder / name)) == ["Grüße.\n\nEnd."]


def test_a_byte_order_mark_is_no_text(folder: Path) -> None:
    (folder / "a.txt").write_text("word", encoding="utf-8-sig")
    assert read_documents(str(folder / "a.txt")) == ["word"]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet", "csv"])
def test_tables_give_a_document_for_each_row(suffix: str, folder: Path) -> None:
    path = folder / f"corpus.{suffix}"
    match suffix:
        case "jsonl":
            lines = [json.dumps({"id": 1, "text": document}) for document in DOCUMENTS]
            path.write_text("\n".join(lines), encoding="utf-8")
        case "json":
            path.write_text(table().to_json(orient="records"), encoding="utf-8")
        case "parquet":
            table().to_parquet(path)
        case _:
            table().to_csv(path, index=False)
    assert read_documents(str(path)) == DOCUMENTS


def test_another_column_can_be_named(folder: Path) -> None:
    table().rename(columns={"text": "body"}).to_csv(folder / "a.csv", index=False)
    assert read_documents(str(folder / "a.csv"), column="body") == DOCUMENTS


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


def test_a_column_without_text_is_refused(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"text": ["a", "list"]}\n')
    with pytest.raises(DataError, match=r"`text` of .* holds other values"):
        read_documents(str(folder / "a.jsonl"))


def test_documents_without_words_are_left_out(folder: Path) -> None:
    (folder / "a.csv").write_text('text\none\n""\n"  "\ntwo\n')
    assert read_documents(str(folder / "a.csv")) == ["one", "two"]


def test_the_home_folder_may_be_a_tilde(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "a.txt").write_text("word")
    assert read_documents("~/a.txt") == ["word"]


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_an_empty_file_is_refused(content: str, folder: Path) -> None:
    (folder / "a.txt").write_text(content)
    message = refusal(folder / "a.txt")
    assert re.search(r"must hold words, and `.*a\.txt` is empty; give another", message)


def test_an_empty_folder_is_refused(folder: Path) -> None:
    assert f"`{folder}` is empty" in refusal(folder)


def test_a_binary_file_is_refused(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"PK\0\0abc")
    message = refusal(folder / "a.bin")
    assert re.search(r"must be text, and `.*a\.bin` is binary; give a text, JSONL", message)


def test_another_encoding_is_refused_with_its_place(folder: Path) -> None:
    (folder / "a.txt").write_bytes("Grüße".encode("latin-1"))
    message = refusal(folder / "a.txt")
    assert re.search(r"must be UTF-8, and `.*a\.txt` is not at byte 2; convert it", message)


def test_a_file_that_may_not_be_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (folder / "a.txt").write_text("word")
    monkeypatch.setattr(Path, "read_bytes", denied)
    message = refusal(folder / "a.txt")
    assert message.endswith("is not: Permission denied; check its permissions")


@pytest.mark.parametrize("data", ["nowhere/corpus.txt", "./corpus", "/no/corpus", "~/no-corpus"])
def test_a_path_that_leads_nowhere_is_refused(data: str) -> None:
    message = refusal(data)
    assert message == f"`--data` must be a file that exists, got `{data}`; check the path"


def test_a_missing_column_is_refused_with_those_there_are(folder: Path) -> None:
    table().to_csv(folder / "a.csv", index=False)
    message = refusal(folder / "a.csv", column="body")
    assert re.search(r"`--column` must be one of id, text in `.*a\.csv`, got `body`", message)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "csv"])
def test_a_damaged_table_is_refused(suffix: str, folder: Path) -> None:
    (folder / f"a.{suffix}").write_bytes(b"" if suffix == "csv" else b"{nothing of the kind")
    message = refusal(folder / f"a.{suffix}")
    assert re.search(r"must be text that `datasets` can load, and `.*` is not: .+; check", message)


@pytest.mark.parametrize("data", ["no-such/data-set", "no-such-set:part", "no-such/Hermes-2.5"])
def test_an_unknown_data_set_is_refused_offline(data: str) -> None:
    message = refusal(data)
    assert message.startswith(f"`--data` must be text that `datasets` can load, and `{data}` is")
    assert message.endswith("; check the name, split and network")


def test_a_named_data_set_is_asked_for_its_configuration_and_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(kind: str, **options: str) -> datasets.Dataset:
        assert (kind, options) == ("wikitext", {"name": "wikitext-2-raw-v1", "split": "test"})
        return datasets.Dataset.from_dict({"page": DOCUMENTS})

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = read_documents("wikitext:wikitext-2-raw-v1", split="test", column="page")
    assert found == DOCUMENTS


def test_an_error_without_words_is_named_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_kind: str, **_options: str) -> datasets.Dataset:
        raise ConnectionError

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert "is not: ConnectionError; check" in refusal("some-set")
