from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest

from evaluators.data.documents import read_documents
from search_spaces.errors import DataError

DOCUMENTS = ["One.", "Two."]


@pytest.fixture(autouse=True)
def no_network_and_no_cache_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def refusal(data: str, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        read_documents(data, **options)
    message = str(caught.value)
    assert len(message) <= 300
    return message


@pytest.mark.parametrize(
    "data", ["no-such/data-set", "no-such-set:part", "no-such/Hermes-2.5", "null"]
)
def test_an_unknown_data_set_is_refused_offline(data: str) -> None:
    assert refusal(data) == (
        f"`--data` must be a file that exists or a data set of the hub, and `{data}` is no file "
        "here, and the hub cannot be reached; check the path, or the network"
    )


def test_a_named_data_set_is_asked_for_its_configuration_and_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(kind: str, **options: str) -> datasets.Dataset:
        assert (kind, options) == ("wikitext", {"name": "wikitext-2-raw-v1", "split": "test"})
        return datasets.Dataset.from_dict({"page": DOCUMENTS, "n": [1, 2]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    name = "wikitext:wikitext-2-raw-v1"
    assert read_documents(name, split="test", column="page") == DOCUMENTS
    assert refusal(name, split="test").endswith("got `text`; set `--column` to `page`")
    assert "`n` holds a number in row 1" in refusal(name, split="test", column="n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (datasets.exceptions.DatasetNotFoundError("secret"), "the hub shows no such data set"),
        (ConnectionError(), "the hub cannot be reached"),
        (PermissionError(13, "denied"), "cannot be written; set `HF_HOME`"),
        (OSError(30, "Read-only file system"), "cannot be written; set `HF_HOME`"),
        (
            ValueError("""Unknown split "train". Should be secret of ['test', 'dev-1']."""),
            "has no split `train`; set `--split` to one of `test, dev-1`",
        ),
        (
            ValueError("Config name is missing, secret: ['one', 'two']"),
            "needs another configuration; name one of `one, two` after a colon",
        ),
        (RuntimeError("secret"), "it cannot be loaded; check the name"),
    ],
)
def test_what_the_library_says_is_put_in_words_of_ours(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_arguments: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    message = refusal("some-set")
    assert said in message
    assert "secret" not in message
