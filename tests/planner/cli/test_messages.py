"""Bad command lines: each is refused with status 2, in one short sentence of our own words."""

import re
from pathlib import Path

import pytest

from planner.cli.main import main

LONG = "x" * 300
FOREIGN = re.compile(
    r"pydantic|argparse|yaml\.|torch\.|jsonargparse|Traceback|\bNoneType\b|<class|errors\.|"
    r"validation error|valid integer|valid string|unable to parse|expected one argument|"
    r"unrecognized|invalid choice|could not|can't|Errno",
    re.IGNORECASE,
)
SEARCH = ("search", "m", "--out=run")
NUMBERS = {
    "seed": ["-1", "4294967296", str(2**64), "1e3", "0x10", "one", "1.5", "true", "9" * 5000],
    "evaluations": ["0", "inf", "1e300", "10000000000"],
    "tokens": ["0", "nan", "9" * 30],
    "minutes": ["0", "inf", "nan", "1e300", "-1", "soon", "1,5"],
    "population": ["1", "1000000000", "two"],
    "search_windows": ["1", "100000000", "all"],
    "window_tokens": ["7", "10000000000000", "2**10"],
    "fresh_windows": ["1", "1" * 20],
    "holdout_windows": ["0", "1e9"],
    "calibration_windows": ["0", "10000001"],
    "rungs": ["0", "65"],
    "positions": ["0", "inf"],
    "mlp_step": ["0", "-16"],
    "sparsity_step": ["0", "91"],
    "weight_cache_gigabytes": ["0", "nan", "-inf", "1.5GB"],
    "batch_size": ["0", "1e9", "10000000000"],
    "prompt_tokens": ["0", "1" * 12],
    "new_tokens": ["-1", "none"],
}
WORDS = {
    "searcher": ["nsga3", "FRONTIER"],
    "racing": ["false", "no"],
    "importance": ["l2"],
    "sparsifier": ["null"],
    "prior": ["0"],
    "dtype": ["float8", "fp16"],
    "offload": ["disk"],
    "focus": ["both"],
    "space": ["head", "heads,,zzz", "2:5"],
    "compensate": ["obs,bias", "all"],
    "budget": ["null", "foo", "params<0.7x", LONG],
}
EMPTY = ("data", "split", "column", "budget", "space", "compensate", "device", "out", "seed")
CASES = [
    *((name, (*SEARCH, f"--{name}={text}")) for name, texts in NUMBERS.items() for text in texts),
    *((name, (*SEARCH, f"--{name}={text}")) for name, texts in WORDS.items() for text in texts),
    *((name, (*SEARCH, f"--{name}={text}")) for name in EMPTY for text in ("", "  \t")),
    *((name, ("to-moe", "m", "--out=x", f"--{name}={text}"))
      for name, text in (("experts", "1"), ("experts", "1e2"), ("active", "0"), ("shared", "-1"),
                         ("active", "65"), ("seed", str(2**40)), ("data", " "))),
    *(("params", (*SEARCH, f"--budget=params<={text}")) for text in ("-1x", "0x", "nan", "1e999")),
    ("holdout", (*SEARCH, "--holdout=x")),
    ("pretrained_router", (*SEARCH, "--pretrained_router=x")),
    ("data", (*SEARCH, "--data=a\udcff")),
    ("out", ("search", "m", "--out")),
    ("out", ("search", "m")),
    ("out", ("search", "m", "--out=~nosuchuser/x")),
    ("model", ("search", "--out=x")),
    ("model", ("search", "", "--out=x")),
    ("model", ("inspect", " ")),
    ("resume", (*SEARCH, "--resume=yes")),
    ("run", ("front", "")),
    ("run", ("front", "~nosuchuser/run")),
    ("nowhere", ("front", "nowhere")),
    ("x", ("front", LONG)),
    ("reference", ("front", "nowhere", "--reference=inf")),
    ("reference", ("front", "nowhere", "--reference=much")),
    ("budget", ("front", "nowhere", "--budget=")),
    ("budgets", ("front", "nowhere", "--budgets= ")),
    ("against", ("front", "nowhere", "--against=")),
    ("source", ("export", "", "--out=x")),
    ("plan", ("export", "nowhere", "--plan=", "--out=x")),
    ("out", ("export", "nowhere", "--out=")),
    ("out", ("demo", "--out=")),
    ("evidence", ("demo", "--evidence= ")),
    ("recipes", ("compare", "m", "--out=x", "--recipes=")),
    ("zzz", ("compare", "m", "--out=x", "--budget=params<=0.7x", "--recipes=zzz")),
    ("config", (*SEARCH, "--config=")),
    ("config", (*SEARCH, "--config=nowhere.yaml")),
    ("config", (*SEARCH, "--config=/dev/zero")),
    ("config", (*SEARCH, f"--config={LONG}")),
    ("--zzz", (*SEARCH, "--zzz")),
    ("serch", ("serch",)),
    (LONG[:30], (LONG,)),
    ("planner search --help", (*SEARCH, *"a" * 500)),
]  # fmt: skip


@pytest.mark.parametrize(("named", "words"), CASES, ids=lambda part: " ".join(part)[:60])
def test_a_mistake_is_one_short_sentence_that_names_the_option(
    named: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(list(words)) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("planner: ")
    assert len(line) <= 300
    assert named in line
    assert not FOREIGN.search(line)
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


CONFIGS = {
    "racing": ["racing: maybe", "racing: [off]", "racing: {a: b}"],
    "seed": ["seed: true", "seed: 1.5", "seed: [1]", "seed: '0x1'", f"seed: {'9' * 5000}"],
    "minutes": ["minutes: .inf", "minutes: 1 hour", "minutes: 2024-01-01"],
    "data": ["data: [a, b]", "data: ''", "data: {a: b}"],
    "budget": ["budget: 0.7", "budget: ' '"],
    "resume": ["resume: perhaps", "resume: 2"],
    "trust_remote_code": ["trust_remote_code: maybe", "trust-remote-code: true"],
    "1": ["1: 2"],
    "zzz": ["zzz: 1"],
    "null": ["null: zzz"],
    "own.yaml": [
        "- a",
        "a",
        "",
        "seed: 1\nseed: 2",
        "data: &a x",
        "data: !!int 1",
        "a: [",
        "a: \0",
    ],
}


@pytest.mark.parametrize(
    ("named", "text"), [(name, text) for name, texts in CONFIGS.items() for text in texts]
)
def test_so_is_one_in_a_file(
    named: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(text, encoding="utf-8")
    assert main([*SEARCH, "--config=own.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert len(line) <= 300
    assert not FOREIGN.search(line)
