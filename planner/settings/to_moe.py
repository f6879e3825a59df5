"""Settings of a conversion of a dense model to a mixture of experts."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from planner.settings.groups import Group
from planner.settings.limits import (
    MOST_EXPERTS,
    MOST_SEED,
    MOST_TOKENS,
    MOST_WINDOWS,
    check_own_text,
)
from planner.settings.validation import validated
from search_spaces.errors import SettingsError


class ToMoeSettings(BaseModel):
    """Everything that decides how the MLPs of a dense model become experts.

    ``planner to-moe`` offers each field as an option, and its docstring as the help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    model: Annotated[str, Group.TEXT]
    """Dense model to convert: a folder, a .gguf file or a name on the Hugging Face hub."""
    experts: Annotated[int, Group.EXPERTS] = Field(default=64, ge=2, le=MOST_EXPERTS)
    """Routed experts of each layer, besides the shared one; a power of two."""
    shared: Annotated[int | None, Group.EXPERTS] = Field(default=None, ge=1, le=MOST_TOKENS)
    """Channels of the shared expert, which runs for every token; by default about a third."""
    active: Annotated[int | None, Group.EXPERTS] = Field(default=None, ge=1, le=MOST_EXPERTS)
    """Experts that run for a token; by default all, which computes what the dense model does."""
    data: Annotated[str | None, Group.TEXT] = None
    """Calibration text: a file, a folder or the name of a data set, of which the first half is
    read; by default the model itself writes it."""
    split: Annotated[str, Group.TEXT] = "train"
    """Split of the data set to read."""
    column: Annotated[str, Group.TEXT] = "text"
    """Column of the data set that holds the text."""
    calibration_windows: Annotated[int, Group.TEXT] = Field(default=32, ge=1, le=MOST_WINDOWS)
    """Windows of text that channels are clustered and routers fitted by."""
    window_tokens: Annotated[int, Group.TEXT] = Field(default=512, ge=8, le=MOST_TOKENS)
    """Tokens in a window."""
    seed: Annotated[int, Group.EXPERTS] = Field(default=0, ge=0, le=MOST_SEED)
    """Random seed of windows and clustering; the same seed gives the same experts."""
    trust_remote_code: Annotated[bool, Group.MACHINE] = False
    """Run the Python code that comes with a model."""

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Return settings from values that a user wrote.

        Raises:
            SettingsError: If a value breaks its rule; the message is one sentence.
        """
        settings = validated(cls, values)
        if settings.active is not None and settings.active > settings.experts:
            raise SettingsError(
                f"`active` must be at most the {settings.experts} experts, got {settings.active}; "
                "lower `--active`, or leave it out to run all"
            )
        if settings.data is None:
            windows = {"calibration_windows": settings.calibration_windows}
            check_own_text(windows, settings.window_tokens)
        return settings
