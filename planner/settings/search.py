"""Settings of a search: one frozen object that the command line, Python and YAML share."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field

from evaluators.metric import limitable_names
from evaluators.runtime import DTypeName, RuntimeName
from planner.searchers import SearcherName
from planner.settings.automatic_workers import automatic_workers
from planner.settings.budget import Budget
from planner.settings.cross_checks import check_agreement
from planner.settings.groups import Group
from planner.settings.limits import MOST_SEED, MOST_TOKENS, MOST_WINDOWS
from planner.settings.parsed import NumberOr, Parsed
from planner.settings.places import PATHS, is_same_place
from planner.settings.validation import validated
from planner.settings.worker_devices import WorkerDevices
from planner.settings.yaml_values import read_yaml
from search_spaces.atomic_files import atomic_write_text
from search_spaces.errors import BudgetError, SettingsError
from search_spaces.importance import ExpertImportanceName, LayerImportanceName, UnitImportanceName
from search_spaces.models import Offload
from search_spaces.models.identity import Verify
from search_spaces.priors import AllocationName
from search_spaces.pruned_weights.quantizers import QuantizerName
from search_spaces.pruned_weights.sparsifiers import SparsifierName
from search_spaces.pruned_weights.weight_methods import WeightMethods, parse_weight_methods
from search_spaces.space.choices import HELP, Choices
from search_spaces.space.formats.format_ladder import FormatLadder
from search_spaces.space.sparsity import SparsityPattern, sparsity_patterns
from search_spaces.suggestions import shown

SETTINGS_FILE = "settings.yaml"
Racing = Literal["tests", "halving", "off"]
"""How plans are dropped before they have seen all windows."""
Focus = Literal["front", "budget"]
LoadsIn = Literal["any", "transformers", "transformers-native", "vllm", "llama.cpp", "onnx"]
PriorName = Literal["energy", "importance", LayerImportanceName, AllocationName]
_VERSION = 3
_WITHOUT_EFFECT_ON_SCORES = frozenset(
    {
        *("evaluations", "tokens", "minutes", "recover"),
        *("offload", "weight_cache_gigabytes", "verify"),
        *("workers", "ray", "worker_devices", "pipeline"),
    }
)


class SearchSettings(BaseModel):
    """Everything that decides how a search goes.

    ``planner search`` offers each field as an option, and its docstring as the help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    model: Annotated[str, Group.TEXT]
    """Model to compress: a folder, a .gguf file or a name on the Hugging Face hub."""
    data: Annotated[str | None, Group.TEXT] = None
    """Calibration text: a file, a folder or the name of a data set; by default the model itself
    writes it."""
    split: Annotated[str, Group.TEXT] = "train"
    """Split of the data set to read."""
    column: Annotated[str, Group.TEXT] = "text"
    """Column of the data set that holds the text."""
    holdout: Annotated[str | None, Group.TEXT] = None
    """Held-out text, on which the front is reported and nothing is decided, given as for --data;
    by default the second half of --data."""
    budget: Annotated[Budget | None, Parsed(Budget.parse), Group.SEARCH] = Field(
        default=None,
        description="Limits to search under, for example params<=0.7x,kl<=0.05; on "
        f"{', '.join(limitable_names())}.",
    )
    focus: Annotated[Focus, Group.SEARCH] = "front"
    """Whether to search a front for all budgets from the dense model to a little below --budget,
    or the best plan at --budget alone."""
    searcher: Annotated[SearcherName, Group.SEARCH] = "frontier"
    """Search algorithm that proposes plans; the others are there to compare frontier with."""
    seed: Annotated[int, Group.SEARCH] = Field(default=0, ge=0, le=MOST_SEED)
    """Random seed; the same seed gives the same front."""
    evaluations: Annotated[int | None, Group.SEARCH] = Field(default=None, ge=1, le=10**9)
    """Stop after this many plans, however few windows each was scored on."""
    tokens: Annotated[int | None, Group.SEARCH] = Field(default=None, ge=1, le=10**15)
    """Stop after this many tokens, summed over plans; if no limit is given, those of 128 plans
    scored on all windows."""
    minutes: Annotated[float | None, Group.SEARCH] = Field(default=None, gt=0, le=10**6)
    """Stop the search after this many minutes; the model's statistics and weights come before it,
    and baselines and the front on other text after, as the forecast says."""
    population: Annotated[int, Group.SEARCH] = Field(default=32, ge=2, le=10_000)
    """Population size of the searcher, and plans that it proposes at a time."""
    search_windows: Annotated[int, Group.TEXT] = Field(default=32, ge=2, le=MOST_WINDOWS)
    """Windows of text that plans are scored on; racing drops some plans before the last."""
    window_tokens: Annotated[int, Group.TEXT] = Field(default=128, ge=8, le=MOST_TOKENS)
    """Tokens in a window."""
    fresh_windows: Annotated[int, Group.TEXT] = Field(default=16, ge=2, le=MOST_WINDOWS)
    """Windows of the same text that the search does not see, on which the front is re-scored."""
    holdout_windows: Annotated[int, Group.TEXT] = Field(default=16, ge=2, le=MOST_WINDOWS)
    """Windows of held-out text, on which the front is re-scored."""
    racing: Annotated[Racing, Group.SEARCH] = "tests"
    """How plans are dropped before they have seen all windows: by paired t tests, by successive
    halving, or not at all."""
    rungs: Annotated[int, Group.SEARCH] = Field(default=4, ge=1, le=64)
    """Rungs of a race, each with twice the windows of the last, as far as they can be halved."""
    positions: Annotated[int | None, Group.SEARCH] = Field(default=None, ge=1, le=MOST_TOKENS)
    """Positions scored in each window, for models with a large vocabulary; by default all."""
    space: Annotated[Choices, Parsed(Choices.parse), Group.SPACE] = Field(
        default=Choices(heads=True, channels=True, drops=True, experts=True), description=HELP
    )
    loads_in: Annotated[LoadsIn, Group.SPACE] = "any"
    """Where plans must load once they are exported, which restricts --space to what can be held
    there; transformers-native: in the model's own class, without code of ours."""
    formats: Annotated[FormatLadder | None, Parsed(FormatLadder.parse), Group.SPACE] = None
    """Number formats to choose from for each component, the embedding and the head, if the space
    has formats, for example Q8_0,Q4_K,int4; source: as they are in the model's own GGUF file; by
    default those of the runtime in --loads_in."""
    mlp_step: Annotated[int | None, Group.SPACE] = Field(default=None, ge=1, le=MOST_TOKENS)
    """MLP channels between two levels; by default chosen from the model's width."""
    sparsity_step: Annotated[int, Group.SPACE] = Field(default=10, ge=1, le=90)
    """Percentage points between two levels of sparsity."""
    importance: Annotated[UnitImportanceName, Group.METHODS] = "wanda"
    """Importance by which heads and channels are ordered; the least important are pruned first."""
    expert_importance: Annotated[ExpertImportanceName, Group.METHODS] = "router_weight"
    """Importance by which experts are ordered; the least important are pruned first."""
    pretrained_router: Annotated[str | None, Group.METHODS] = None
    """Folder of the model before its fine-tuning, for the expert importance router_change."""
    sparsifier: Annotated[SparsifierName, Group.METHODS] = "sparsegpt"
    """How weights are chosen that become zero, if the space has sparsity."""
    quantizer: Annotated[QuantizerName, Group.METHODS] = "gptq"
    """How matrices are put into number formats, if the space has formats: by error feedback, by
    what an error counts for its input (imatrix), or to the nearest; experts, the embedding and the
    head at most by imatrix."""
    compensate: Annotated[WeightMethods, Parsed(parse_weight_methods), Group.METHODS] = (
        WeightMethods(compensation="obs")
    )
    """How kept weights are updated to compensate for pruned ones: none, or one of bias,
    least_squares, obs and tuning for heads and channels, merge for experts, and one of admm and
    dsnot for sparse weights, comma separated."""
    recover: Annotated[Literal["none", "refit", "block"], Group.METHODS] = "none"
    """How weights of the best plans within --budget are recovered after the search, to keep the
    plan that does best then: refit solves output projections again, block trains whole layers."""
    weight_cache_gigabytes: Annotated[float | None, Group.MACHINE] = Field(
        default=None, gt=0, allow_inf_nan=True
    )
    """Disk space for compensated and sparse weights, by default half of what is free, inf for no
    limit; widths of MLPs are chosen so that theirs fit, and what does not is computed again."""
    prior: Annotated[PriorName, Group.METHODS] = "energy"
    """Sensitivity prior: the damage that cuts are expected to do, which the search starts from."""
    calibration_windows: Annotated[int | None, Group.TEXT] = Field(
        default=None, ge=1, le=MOST_WINDOWS
    )
    """Windows of the same text, unseen by the search, that all fits are made on; by default 32,768
    tokens, or fewer if text or time allow no more."""
    batch_size: Annotated[int, Group.MACHINE] = Field(default=1, ge=1, le=10**9)
    """Sequences in the request that latency is measured for."""
    prompt_tokens: Annotated[int, Group.MACHINE] = Field(default=128, ge=1, le=MOST_TOKENS)
    """Prompt tokens of each sequence in that request."""
    new_tokens: Annotated[int, Group.MACHINE] = Field(default=32, ge=0, le=MOST_TOKENS)
    """Generated tokens of each sequence in that request."""
    runtime: Annotated[RuntimeName, Group.MACHINE] = "torch"
    """Runtime that latency is measured in for a budget on latency or throughput: the one in which
    the export will be served."""
    workers: Annotated[
        int | Literal["auto", "ray"], NumberOr("auto", "ray", ge=1, le=10_000), Group.MACHINE
    ] = Field(default="auto")
    """Processes that score plans, which share the threads of torch and map the same weights; 1:
    the search itself scores; auto: 1, which was found no slower; ray: actors on Ray score, as many
    as --worker_devices says."""
    ray: Annotated[str | None, Group.MACHINE] = None
    """Address of the Ray cluster that --workers ray uses, as HOST:PORT; this machine must belong
    to it; by default Ray is started on this machine."""
    worker_devices: Annotated[WorkerDevices | None, Parsed(WorkerDevices.parse), Group.MACHINE] = (
        None
    )
    """Workers on Ray and what each has for itself: 8xcuda for eight with a GPU, 4xcpu:2 for four
    with two cores, which are as many threads of torch."""
    pipeline: Annotated[bool, Group.MACHINE] = False
    """Let each of --workers hold some of the layers, for a model of which none could hold all."""
    dtype: Annotated[DTypeName, Group.MACHINE] = "auto"
    """Number format that plans are scored in."""
    device: Annotated[str, Group.MACHINE] = "auto"
    """Device that plans are scored on, for example cpu or cuda:0."""
    offload: Annotated[Offload, Group.MACHINE] = "auto"
    """Whether layers stay on disk and each is read when it is used; auto: if memory is short."""
    verify: Annotated[Verify, Group.MACHINE] = "sample"
    """How the model's weights are compared with those that a run began with: by samples and a
    checksum of all, or by a cryptographic digest of all; both read every byte."""
    trust_remote_code: Annotated[bool, Group.MACHINE] = False
    """Run the Python code that comes with a model."""

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Return settings from values that a user wrote.

        Raises:
            SettingsError: If a value breaks its rule; the message is one sentence.
        """
        settings = validated(cls, values)
        check_agreement(settings)
        return settings

    @property
    def patterns(self) -> tuple[SparsityPattern, ...]:
        """Sparsity patterns to choose from, the dense one first."""
        return sparsity_patterns(self.space, self.sparsity_step)

    @property
    def worker_count(self) -> int:
        """Workers that score."""
        if self.workers == "auto":
            return automatic_workers()
        if self.workers != "ray":
            return self.workers
        assert self.worker_devices is not None, "the two go together"
        return self.worker_devices.count

    @property
    def weight_cache_bytes(self) -> int | None:
        """Disk space for weights; more than any disk has for no limit; None: by what is free."""
        gigabytes = self.weight_cache_gigabytes
        return None if gigabytes is None else round(min(gigabytes, 1e9) * 1e9)

    @property
    def streamed_in_pipeline(self) -> Self:
        """These settings as a search opens its model: stages have the layers of a pipeline."""
        return self.model_copy(update={"offload": "always"}) if self.pipeline else self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the settings saved in a run folder.

        Raises:
            SettingsError: If there are none, or none that this version can read.
        """
        path = folder / SETTINGS_FILE
        values = read_yaml(path)
        version = values.pop("version", None)
        if version != str(_VERSION):
            raise SettingsError(
                f"`{path}` must be of version {_VERSION}, got {shown(version)}; use the planner "
                "that wrote it"
            )
        try:
            return cls.checked(**values)
        except (BudgetError, SettingsError) as error:
            raise SettingsError(f"`{path}` holds a setting out of place: {error}") from error

    def save(self, folder: Path) -> None:
        """Write ``settings.yaml`` into a run folder.

        Raises:
            OutputError: If the folder cannot be written to.
        """
        values = {"version": _VERSION} | self.model_dump(mode="json")
        if self.weight_cache_gigabytes == math.inf:  # as it is typed; YAML writes .inf
            values["weight_cache_gigabytes"] = "inf"
        atomic_write_text(folder / SETTINGS_FILE, yaml.safe_dump(values, sort_keys=False))

    def differences(self, other: Self) -> dict[str, tuple[Any, Any]]:
        """Return the fields that make two searches differ, with both values.

        Fields that no score depends on are left out: limits on how long the search goes on, who
        scores, and where weights lie meanwhile.
        """
        values, other_values = self.model_dump(), other.model_dump()
        return {
            name: (values[name], other_values[name])
            for name in values
            if name not in _WITHOUT_EFFECT_ON_SCORES
            and getattr(self, name) != getattr(other, name)
            and not (name in PATHS and is_same_place(values[name], other_values[name]))
        }
