"""Reading the routers, and nothing else, of the model before its fine-tuning."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from search_spaces.errors import ModelError, quoted
from search_spaces.models.on_disk.source_files import tensors_in
from search_spaces.structure.backbone import Backbone
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import mixtures_of

_REMEDY = (
    "let `--pretrained_router` name a HuggingFace folder with the safetensors files of the model "
    "that this one was fine-tuned from"
)


def read_pretrained_routers(
    folder: Path, backbone: Backbone, components: Sequence[Component]
) -> dict[int, Tensor]:
    """Read the routers' rows from a folder, by their names in a fine-tuned model.

    Args:
        folder: With safetensors files, named as transformers reads them for that model.
        backbone: The fine-tuned model; its weights need not be in memory.
        components: Its components; those without experts are skipped.

    Returns:
        By layer ``(experts, hidden)``, as stored.

    Raises:
        ModelError: If the folder has no such files, or they lack a router or hold one of
            another shape.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    layers: dict[str, int] = {}
    for mixture in mixtures_of(components):
        layer = backbone.layers[mixture.layer]
        tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
        path = next(path for path in mixture.router_rows if tensors[path].ndim == 2)
        name = f"{backbone.layer_paths[mixture.layer]}.{path}"
        shapes[name], layers[name] = tuple(tensors[path].shape), mixture.layer
    routers = {}
    for name, rows in _tensors(folder, backbone.model, shapes):
        if tuple(rows.shape) != shapes[name]:
            raise ModelError(
                f"the router before fine-tuning must have the shape {shapes[name]}, and `{name}` "
                f"in `{folder}` has {tuple(rows.shape)}; {_REMEDY}"
            )
        routers[layers[name]] = rows
    missing = [name for name in shapes if layers[name] not in routers]
    if missing:
        raise ModelError(
            f"the model before fine-tuning must have the routers of this one, and `{folder}` has "
            f"no `{missing[0]}`; {_REMEDY}"
        )
    return routers


def _tensors(
    folder: Path, model: PreTrainedModel, names: Mapping[str, object]
) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors of some names in the model, with these."""
    tensors = tensors_in(folder) if folder.is_dir() else {}
    if not tensors:
        raise ModelError(
            f"{quoted(str(folder))} must be a folder with safetensors files; {_REMEDY}"
        )
    changes = get_model_conversion_mapping(model)
    renamings = [change for change in changes if isinstance(change, WeightRenaming)]
    converters = [change for change in changes if isinstance(change, WeightConverter)]
    model_tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for key, tensor in tensors.items():
        name, _ = rename_source_key(
            key, renamings, converters, model.base_model_prefix, model_tensors
        )
        if name in names:
            try:
                with safe_open(tensor.file, framework="pt") as opened:
                    yield name, opened.get_tensor(key)
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"{quoted(str(tensor.file))} cannot be read; {_REMEDY}"
                ) from error
