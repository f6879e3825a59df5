"""Which model a plan belongs to."""

from pydantic import BaseModel, ConfigDict


class ModelIdentity(BaseModel):
    """Which model a plan belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    architecture: str
    """The model's class name."""
    fingerprint: str
    """Hash of its weights' names, shapes and a sample of their values."""
    params: int
    """Parameters of the dense model, tied ones once."""
