"""What a split is told: how many experts, how many of them run, and the text for making them."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from planner.settings.validation import validated
from search_spaces.errors import SettingsError


class ToMoeSettings(BaseModel):
    """Everything that decides how a dense model is split into experts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str
    """Dense model to split: a folder, a .gguf file or a name on the Hugging Face hub."""
    experts: int = 64
    """Experts of each layer beside the shared one, a power of two."""
    shared: int | None = Field(default=None, ge=1)
    """Channels of the shared expert, which runs for every token; by default about a third."""
    active: int | None = Field(default=None, ge=1)
    """Experts that run for a token; by default all, which computes what the dense model does."""
    data: str | None = None
    """Calibration text: a file, a folder or a data set's name, of which the first half is read; by
    default the model writes it."""
    split: str = "train"
    """Split of the data set to read."""
    column: str = "text"
    """Column of the data set that holds the text."""
    calibration_windows: int = Field(default=32, ge=1)
    """Calibration windows that clusters and routers are made from."""
    window_tokens: int = Field(default=512, ge=8)
    """Tokens in a window."""
    seed: int = Field(default=0, ge=0)
    """Seed of the windows and of the clustering: the same seed gives the same split."""
    trust_remote_code: bool = False
    """Run the Python code that comes with a model."""

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Settings from values that a user wrote.

        Raises:
            SettingsError: A value that breaks its rule, in one sentence.
        """
        settings = validated(cls, values)
        if settings.active is not None and settings.active > settings.experts:
            raise SettingsError(
                f"`active` must be at most the {settings.experts} experts, got {settings.active}; "
                "lower `--active`, or leave it out to run all"
            )
        return settings
