"""The identity of a model, which plans and run folders are checked against."""

from pydantic import BaseModel, ConfigDict


class ModelIdentity(BaseModel):
    """Identity of a dense model by its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    architecture: str
    """The model's class name."""
    fingerprint: str
    """Hash of its weights' names, shapes and a sample of their values."""
    params: int
    """Number of parameters, tied ones once."""
