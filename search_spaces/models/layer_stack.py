"""The stack of layers of a model."""

from torch import nn
from transformers import PreTrainedModel

from search_spaces.errors import StructureError


def find_stack(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """Return the path of a model's layers, and the layers.

    Raises:
        StructureError: If it does not hold them in one list.
    """
    count = model.config.get_text_config().num_hidden_layers
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count > 0:
            return path, module
    raise StructureError(
        f"a model must hold its layers in one list of {count} modules, and "
        f"{type(model).__name__} has none; this architecture cannot be read"
    )
