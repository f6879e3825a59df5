"""Settings of an evaluation of a model, beside the dense one that it was pruned from."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from evaluators.runtime import DTypeName
from planner.settings.groups import Group
from planner.settings.limits import MOST_SEED, MOST_TOKENS, MOST_WINDOWS
from planner.settings.validation import validated
from search_spaces.errors import SettingsError


class EvaluateSettings(BaseModel):
    """Everything that decides what is measured of a model, and how.

    ``planner evaluate`` offers each field as an option, and its docstring as the help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    model: Annotated[str, Group.TEXT]
    """Model to evaluate: a HuggingFace folder, such as an export."""
    dense: Annotated[str | None, Group.TEXT] = None
    """Dense model to compare it with; by default the one that an export was made from, if it is
    still there."""
    tasks: Annotated[str | None, Group.TASKS] = None
    """Tasks of lm-evaluation-harness, comma separated: their names, YAML files of them, or folders
    of such files."""
    limit: Annotated[int | None, Group.TASKS] = Field(default=None, ge=1, le=10**9)
    """Samples of each task to evaluate, the first ones; by default all."""
    num_fewshot: Annotated[int | None, Group.TASKS] = Field(default=None, ge=0, le=1000)
    """Solved samples before each question; by default as each task says."""
    apply_chat_template: Annotated[bool, Group.TASKS] = False
    """Ask as a chat does, by the template of the model's tokenizer."""
    data: Annotated[str | None, Group.TEXT] = None
    """Text to measure perplexity on: a file, a folder or the name of a data set; by default, if no
    tasks are given, the held-out part of the text that an export was searched on."""
    split: Annotated[str, Group.TEXT] = "train"
    """Split of the data set to read."""
    column: Annotated[str, Group.TEXT] = "text"
    """Column of the data set that holds the text."""
    evaluation_windows: Annotated[int, Group.TEXT] = Field(default=64, ge=2, le=MOST_WINDOWS)
    """Windows of text to measure perplexity on, as far as the text goes."""
    window_tokens: Annotated[int | None, Group.TEXT] = Field(default=None, ge=8, le=MOST_TOKENS)
    """Tokens in a window; by default 512, or all that the model reads if these are fewer."""
    seed: Annotated[int, Group.TEXT] = Field(default=0, ge=0, le=MOST_SEED)
    """Random seed of the windows and of the solved samples."""
    batch_size: Annotated[int, Group.MACHINE] = Field(default=8, ge=1, le=10**9)
    """Sequences to compute at once."""
    dtype: Annotated[DTypeName, Group.MACHINE] = "auto"
    """Number format to compute in, of both models."""
    device: Annotated[str, Group.MACHINE] = "auto"
    """Device to compute on, for example cpu or cuda:0."""
    trust_remote_code: Annotated[bool, Group.MACHINE] = False
    """Run the Python code that comes with a model or a task; that of an export is known, and runs
    without."""

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Return settings from values that a user wrote.

        Raises:
            SettingsError: If a value breaks its rule; the message is one sentence.
        """
        settings = validated(cls, values)
        for name in ("limit", "num_fewshot", "apply_chat_template"):
            if settings.tasks is None and getattr(settings, name) not in (None, False):
                raise SettingsError(
                    f"`{name}` is of tasks, and must come with some, got none; name them with "
                    f"`--tasks`, or leave `--{name}` out"
                )
        return settings
