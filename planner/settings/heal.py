"""Settings of a healing: what is trained, on which text, how long."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from evaluators.runtime import DTypeName
from planner.settings.groups import Group
from planner.settings.limits import MOST_SEED, MOST_TOKENS, MOST_WINDOWS
from planner.settings.validation import validated
from search_spaces.models.identity import Verify

Train = Literal["all", "norms", "lora"]

_RATES: dict[Train, float] = {"all": 2e-4, "norms": 2e-3, "lora": 1e-3}
"""Highest learning rates."""


class HealSettings(BaseModel):
    """Everything that decides how a small model is trained to predict as the dense one does.

    ``planner heal`` offers each field as an option, and its docstring as the help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    model: Annotated[str, Group.TEXT]
    """Folder of a run, or of an export of it."""
    data: Annotated[str | None, Group.TEXT] = None
    """Text to train on, given as for a search; by default that of the run."""
    split: Annotated[str, Group.TEXT] = "train"
    """Split of the data set to read."""
    column: Annotated[str, Group.TEXT] = "text"
    """Column of the data set that holds the text."""
    holdout: Annotated[str | None, Group.TEXT] = None
    """Held-out text for an export folder, on which healing is reported and nothing is decided; by
    default what the search held out, or the second half of --data."""
    fresh_windows: Annotated[int, Group.TEXT] = Field(default=32, ge=2, le=MOST_WINDOWS)
    """Windows of text that an export folder's best weights are chosen on."""
    holdout_windows: Annotated[int, Group.TEXT] = Field(default=32, ge=2, le=MOST_WINDOWS)
    """Windows of held-out text that an export folder is reported on."""
    minutes: Annotated[float | None, Group.TRAINING] = Field(default=None, gt=0, le=10**6)
    """Stop after this many minutes of training; if no limit is given, after ten."""
    tokens: Annotated[int | None, Group.TRAINING] = Field(default=None, ge=1, le=10**15)
    """Stop after this many tokens."""
    train: Annotated[Train, Group.TRAINING] = "all"
    """What is trained: all weights but the embeddings, norms and biases alone, or low-rank updates
    that are merged at the end."""
    lr: Annotated[float | None, Group.TRAINING] = Field(default=None, gt=0, le=1)
    """Highest learning rate; by default 2e-4 for all, 2e-3 for norms and 1e-3 for lora."""
    reverse: Annotated[float, Group.TRAINING] = Field(default=0.0, ge=0, le=1)
    """Share of the reverse KL, of the small model's predictions to the dense one's."""
    lora_rank: Annotated[int, Group.TRAINING] = Field(default=16, ge=1, le=4096)
    """Rank of low-rank updates."""
    windows: Annotated[int, Group.TRAINING] = Field(default=2, ge=1, le=MOST_WINDOWS)
    """Windows of text in a step."""
    window_tokens: Annotated[int, Group.TRAINING] = Field(default=256, ge=8, le=MOST_TOKENS)
    """Tokens in a window; the model's positions if these are fewer."""
    gradient_checkpointing: Annotated[bool, Group.TRAINING] = False
    """Compute each layer a second time instead of keeping what is inside it: less memory, a third
    more time."""
    seed: Annotated[int, Group.TRAINING] = Field(default=0, ge=0, le=MOST_SEED)
    """Random seed of the order of the text."""
    dtype: Annotated[DTypeName, Group.MACHINE] = "auto"
    """Number format to multiply in; trained weights are held in float32."""
    device: Annotated[str, Group.MACHINE] = "auto"
    """Device to train on, for example cpu or cuda:0."""
    verify: Annotated[Verify, Group.MACHINE] = "sample"
    """How the model's weights are compared with those that a run began with."""
    trust_remote_code: Annotated[bool, Group.MACHINE] = False
    """Run the Python code that comes with a model."""

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Return settings from values that a user wrote.

        Raises:
            SettingsError: If a value breaks its rule; the message is one sentence.
        """
        settings = validated(cls, values)
        if settings.minutes is None and settings.tokens is None:
            return settings.model_copy(update={"minutes": 10.0})
        return settings

    @property
    def highest_rate(self) -> float:
        """The learning rate after the warm-up."""
        return _RATES[self.train] if self.lr is None else self.lr

    def mark(self) -> dict[str, Any]:
        """Return what a training that goes on must have begun with, ready for JSON."""
        return self.model_dump(mode="json", exclude={"minutes", "tokens", "verify", "device"})
