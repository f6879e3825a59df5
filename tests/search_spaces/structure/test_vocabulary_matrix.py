"""Embedding and head as components: whose weights they are, and where they stand."""

import pytest
import torch

from search_spaces.structure.linear import matrix
from tests.models.tiny import llama


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_model_has_one_matrix_for_both_ends(tied: bool) -> None:
    structure = llama(tied=tied)
    model, whole = structure.backbone.model, structure.with_ends()
    assert structure.ends == ()
    assert whole.components[: len(structure.components)] == structure.components
    names = [end.name for end in whole.ends]
    assert names == (["embedding"] if tied else ["embedding", "head"])
    assert [end.reads_out for end in whole.ends] == ([True] if tied else [False, True])
    (embedding,) = whole.ends[0].weights(model).values()
    assert embedding is model.get_input_embeddings().weight
    (head,) = whole.ends[-1].weights(whole.owner(whole.ends[-1])).values()
    read_out = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert torch.equal(head, matrix(read_out))


def test_each_component_knows_the_module_that_its_paths_lie_in() -> None:
    structure = llama(tied=False).with_ends()
    for component, weights in structure.matrices():
        owner = structure.owner(component)
        for path, weight in weights.items():
            assert torch.equal(matrix(owner.get_submodule(path)).float(), weight)
    # what walks layers meets the same components at the same positions
    for span, layer in zip(structure.spans, structure.layers, strict=True):
        assert structure.components[span] == layer.components
