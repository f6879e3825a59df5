"""What inputs are made from: tiny models, text, a run and a plan; and a folder for each input."""

import contextlib
import io
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.workers import Worker

TINY_SEARCH = [
    "--search_windows=2",
    "--window_tokens=16",
    "--fresh_windows=2",
    "--holdout_windows=2",
    "--calibration_windows=4",
    "--population=2",
    "--evaluations=4",
    "--minutes=0.1",
]
"""Options of a search that takes a second."""
TINY_SPLIT = ["--calibration_windows=2", "--window_tokens=16", "--experts=4"]
BUDGET = "params<=0.9x"
_VOCABULARY = 96
_COMMON: Mapping[str, Any] = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GATED = {**_COMMON, "intermediate_size": 48, "num_key_value_heads": 2}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "Llama": _GATED,
    "Qwen3": {**_GATED, "head_dim": 8},
    "Gemma2": {**_GATED, "head_dim": 8},
    "GPT2": _COMMON,
    "Mixtral": {**_GATED, "num_local_experts": 4, "num_experts_per_tok": 2},
}


@dataclass(frozen=True, kw_only=True)
class Materials:
    """A folder with all that inputs begin with."""

    root: Path

    def path(self, name: str) -> Path:
        """Return ``text.txt``, ``run``, ``plan.json``, or the folder of a family."""
        return self.root / "work" / name

    @property
    def search(self) -> list[str]:
        """The words that the run was made with."""
        return [
            "search",
            str(self.path("Llama")),
            f"--data={self.path('text.txt')}",
            f"--budget={BUDGET}",
            "--compensate=least_squares",
            *TINY_SEARCH,
        ]

    def make(self, worker: Worker) -> None:
        """Make everything, with the planner of a worker."""
        work = self.path("")
        work.mkdir(parents=True)
        self.path("text.txt").write_text(prose(4000), encoding="utf-8")
        with contextlib.redirect_stderr(io.StringIO()):  # transformers' progress
            for family in FAMILIES:
                make_model(family, self.path(family))
        model, data = str(self.path("Llama")), f"--data={self.path('text.txt')}"
        compare = ["compare", model, data, *TINY_SEARCH]
        worker.learn(
            [
                [*self.search, f"--out={self.path('run')}"],
                ["front", str(self.path("run")), f"--budget={BUDGET}"],
                ["export", str(self.path("run")), f"--budget={BUDGET}", "--out=exported"],
                ["inspect", model],
                ["to-moe", model, data, *TINY_SPLIT, "--out=mixture"],
                [*compare, f"--budget={BUDGET}", "--recipes=uniform", "--out=compared"],
            ],
            self.root,
        )
        # of slices alone, which a plan in a file may hold
        words = [*self.search[:4], "--compensate=none", *TINY_SEARCH, "--out=sliced"]
        export = ["export", "sliced", f"--budget={BUDGET}", "--out=slices"]
        worker.learn([words, export], self.root)
        shutil.copyfile(work / "slices" / "plan.json", self.path("plan.json"))

    @contextlib.contextmanager
    def taught(self, checkout: Path) -> Iterator[Worker]:
        """Start a worker of a checkout that has imported what commands need."""
        search = [*self.search, "--out=run"]
        export = ["export", "run", f"--budget={BUDGET}", "--out=exported"]
        with (
            tempfile.TemporaryDirectory(dir=self.root.parent) as place,
            Worker(checkout, self.root.parent / "cache") as worker,
        ):
            worker.learn([search, ["front", "run"], export], Path(place))
            yield worker


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A command, and what it may touch."""

    words: Sequence[str]
    out: str | None = None
    """What it is to write, which is not there yet."""
    changes: Sequence[str] = ()
    """What it may change of that which is there."""


@dataclass(kw_only=True)
class Place:
    """A folder for one input: ``work`` to run in, ``home``, and ``beside.txt``."""

    root: Path
    materials: Materials
    rng: random.Random
    remarks: list[str] = field(default_factory=list)
    """What was done to the materials, to be read by people."""

    def __post_init__(self) -> None:
        for name in ("work", "home"):
            (self.root / name).mkdir(parents=True)
        (self.root / "beside.txt").write_text("Not the planner's.\n", encoding="utf-8")

    @property
    def work(self) -> Path:
        """The folder to run in."""
        return self.root / "work"

    def copy(self, name: str, target: str | None = None) -> Path:
        """Copy something of the materials into the folder to run in."""
        source, copy = self.materials.path(name), self.work / (target or name)
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copyfile(source, copy)
        return copy

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file there, and remark it."""
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.remarks.append(f"{name} ({len(data)} bytes): {data[:300]!r}")


def prose(words: int) -> str:
    """Write sentences of words that the tiny models know."""
    rng = random.Random(0)
    text = [f"w{rng.randrange(3, _VOCABULARY)}" for _ in range(words)]
    return "\n".join(" ".join(text[start : start + 20]) for start in range(0, words, 20)) + "\n"


def make_model(family: str, folder: Path) -> None:
    """Save a seeded random model of a family, and a tokenizer of its words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    make: Any = transformers.AutoModelForCausalLM.from_config
    model = make(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    model.save_pretrained(folder)
    words = ["<pad>", "<s>", "</s>", *(f"w{index}" for index in range(3, _VOCABULARY))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrap: Any = transformers.PreTrainedTokenizerFast
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    wrap(tokenizer_object=tokenizer, **special).save_pretrained(folder)
