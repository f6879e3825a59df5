"""What a search is told: one frozen object that the command line, Python and YAML share."""

from pathlib import Path
from typing import Any, Literal, NoReturn, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field

from planner.searchers import SearcherName
from planner.settings.validation import validated
from search_spaces.atomic_files import atomic_write_text
from search_spaces.errors import SettingsError
from search_spaces.importance import ExpertImportanceName, LayerImportanceName, UnitImportanceName
from search_spaces.priors import AllocationName
from search_spaces.pruned_weights.sparsifiers import SparsifierName
from search_spaces.pruned_weights.weight_methods import WeightMethods, parse_weight_methods
from search_spaces.space.choices import Choices
from search_spaces.space.sparsity import SparsityPattern, sparsity_patterns

SETTINGS_FILE = "settings.yaml"
PriorName = Literal["energy", "importance", LayerImportanceName, AllocationName]
_VERSION = 2
_LEAVES_SCORES_ALONE = frozenset(
    {"evaluations", "tokens", "minutes", "offload", "weight_cache_gigabytes"}
)


class SearchSettings(BaseModel):
    """Everything that decides how a search goes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str
    """Model to compress: a folder, a .gguf file or a name on the Hugging Face hub."""
    data: str | None = None
    """Calibration text: a file, a folder or a data set's name; by default the model writes it."""
    split: str = "train"
    """Split of the data set to read."""
    column: str = "text"
    """Column of the data set that holds the text."""
    holdout: str | None = None
    """Text kept from every decision, read as --data is; by default the second half of --data."""
    budget: str | None = None
    """Limits to search under, for example params<=0.7x,kl<=0.05."""
    focus: Literal["front", "budget"] = "front"
    """What for: a front for budgets from the dense model to below this one, or this one alone."""
    searcher: SearcherName = "frontier"
    """Who proposes plans; frontier learns from all of them, others are there to compare with."""
    seed: int = Field(default=0, ge=0)
    """Seed of the whole search: the same seed gives the same front."""
    evaluations: int | None = Field(default=None, ge=1)
    """Stop after this many plans, however little of the text each was scored on."""
    tokens: int | None = Field(default=None, ge=1)
    """Stop after this many candidate tokens; with no limit given, those of 256 plans in full."""
    minutes: float | None = Field(default=None, gt=0)
    """Stop after this many minutes of scoring."""
    population: int = Field(default=32, ge=2)
    """Plans that a searcher keeps and proposes at a time."""
    search_windows: int = Field(default=16, ge=2)
    """Windows that plans are scored on; a race drops some plans before the last."""
    window_tokens: int = Field(default=128, ge=8)
    """Tokens in a window."""
    fresh_windows: int = Field(default=16, ge=2)
    """Windows of the same text that the search does not see, on which the front is re-scored."""
    holdout_windows: int = Field(default=16, ge=2)
    """Windows of other text, kept from every decision, on which the front is re-scored."""
    racing: Literal["tests", "halving", "off"] = "tests"
    """How plans are dropped before they have seen all windows: by tests, by halves, or not."""
    rungs: int = Field(default=3, ge=1)
    """Steps in which the text that a plan is scored on doubles, as far as it can be halved."""
    positions: int | None = Field(default=None, ge=1)
    """Positions scored in each window, for models whose head is dear; by default all."""
    space: str = "heads,channels,drops,experts"
    """What may be cut, comma separated: heads, channels, drops (of attentions, MLPs and experts),
    experts, top_k (experts that run for a token), sparsity (of weights), 2:4, 4:8; or layers in
    the place of the first four."""
    mlp_step: int | None = Field(default=None, ge=1)
    """MLP channels between two levels; by default chosen from the model's width."""
    sparsity_step: int = Field(default=10, ge=1, le=90)
    """Per cent of zeros between two levels of sparsity."""
    importance: UnitImportanceName = "wanda"
    """Order in which heads and channels are cut."""
    expert_importance: ExpertImportanceName = "router_weight"
    """Order in which experts are cut."""
    pretrained_router: str | None = None
    """Folder of the model before its fine-tuning, for the expert importance router_change."""
    sparsifier: SparsifierName = "sparsegpt"
    """How weights are chosen that become zero, where the space has sparsity."""
    compensate: str = "obs"
    """How what stays makes up for what goes: none, or one of bias, least_squares, obs and tuning
    for heads and channels, merge for experts, and one of admm and dsnot for sparse weights, comma
    separated."""
    weight_cache_gigabytes: float = Field(default=1.5, gt=0)
    """Most that compensated and sparse weights take of the disk; the rest is made when needed."""
    prior: PriorName = "energy"
    """What cuts are guessed to do before any plan is scored; a good start, and no more."""
    calibration_windows: int = Field(default=64, ge=1)
    """Windows that statistics of activations are taken from, as far as the text goes."""
    batch_size: int = Field(default=1, ge=1)
    """Sequences side by side in the request that latency is measured for."""
    prompt_tokens: int = Field(default=128, ge=1)
    """Tokens that the request reads, in each sequence."""
    new_tokens: int = Field(default=32, ge=0)
    """Tokens that the request writes, in each sequence."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format that plans are scored in."""
    device: str = "auto"
    """Device that plans are scored on, for example cpu or cuda:0."""
    offload: Literal["auto", "never", "always"] = "auto"
    """Leave the layers on disk and read each when it is used: auto does where memory is short."""
    trust_remote_code: bool = False
    """Run the Python code that comes with a model."""

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Settings from values that a user wrote.

        Raises:
            SettingsError: A value that breaks its rule, in one sentence.
        """
        settings = validated(cls, values)
        _check_agreement(settings)
        if settings.holdout is not None and settings.data is None:
            rule = "`holdout` must come with `data`, for a model's own text is held out by itself"
            _refuse(rule, settings.holdout, "set `--data` too")
        # one way to write each, so that a run is known again
        return settings.model_copy(update={"space": str(Choices.parse(settings.space))})

    @property
    def choices(self) -> Choices:
        """What may be cut."""
        return Choices.parse(self.space)

    @property
    def patterns(self) -> tuple[SparsityPattern, ...]:
        """Of sparsity, the dense one first."""
        return sparsity_patterns(self.choices, self.sparsity_step)

    @property
    def weight_methods(self) -> WeightMethods:
        """What makes up for what goes.

        Raises:
            SettingsError: An unknown name, or two of a kind.
        """
        return parse_weight_methods(self.compensate)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The settings saved in a run folder.

        Raises:
            SettingsError: No settings there, or none that this version can read.
        """
        path = folder / SETTINGS_FILE
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            message = f"`{path}` must hold settings as YAML, got: {error}; restore the file"
            raise SettingsError(message) from error
        version = values.pop("version", None) if isinstance(values, dict) else None
        if version != _VERSION:
            _refuse(f"`{path}` must be of version {_VERSION}", version, "use the planner it is of")
        return cls.checked(**values)

    def save(self, folder: Path) -> None:
        """Write ``settings.yaml`` into a run folder.

        Raises:
            OutputError: The folder cannot be written to.
        """
        values = {"version": _VERSION} | self.model_dump(mode="json")
        atomic_write_text(folder / SETTINGS_FILE, yaml.safe_dump(values, sort_keys=False))

    def differences(self, other: Self) -> dict[str, tuple[Any, Any]]:
        """Fields in which two settings ask for different searches, with both values.

        ``evaluations``, ``tokens`` and ``minutes`` only say how far the same search goes, and
        ``offload`` where the weights lie meanwhile.
        """
        mine, theirs = self.model_dump(), other.model_dump()
        return {
            name: (mine[name], theirs[name])
            for name in mine
            if name not in _LEAVES_SCORES_ALONE and mine[name] != theirs[name]
        }


def _check_agreement(settings: SearchSettings) -> None:
    """Refuse repairs that cannot be read, and repairs and guesses that the space has no use for.

    Raises:
        SettingsError: They are so.
    """
    choices, (_, refinement, merges) = settings.choices, settings.weight_methods
    if merges and not choices.experts:
        rule = "`compensate` merge needs a space with experts"
        _refuse(rule, settings.space, "add `experts` to `--space`, or leave it out")
    if settings.expert_importance == "router_change" and settings.pretrained_router is None:
        rule = "`expert_importance` router_change needs the router before fine-tuning"
        _refuse(rule, "none", "name the folder of that model with `--pretrained_router`")
    if settings.expert_importance != "router_change" and settings.pretrained_router is not None:
        rule = "`pretrained_router` is read for the expert importance router_change alone"
        _refuse(
            rule,
            settings.expert_importance,
            "set `--expert_importance router_change`, or leave it out",
        )
    if refinement and not choices.sparse:
        rule = f"`compensate` {refinement} needs a space with sparsity"
        _refuse(rule, settings.space, "add `sparsity` or `2:4` to `--space`, or leave it out")
    if settings.prior in get_args(AllocationName) and not choices.sparse:
        rule = f"`prior` {settings.prior} shares out sparsity, and needs a space with some"
        _refuse(rule, settings.space, "add `sparsity` to `--space`, or set another prior")


def _refuse(rule: str, got: object, remedy: str) -> NoReturn:
    raise SettingsError(f"{rule}, got {got!r}; {remedy}")
