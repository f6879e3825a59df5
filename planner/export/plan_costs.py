"""Costs of a plan whose options no search has chosen among."""

from dataclasses import replace

from evaluators.costs.cost_model import CostModel
from planner.preparation.dense_model import DenseModel
from planner.settings.search import SearchSettings
from search_spaces.space.plan import Plan
from search_spaces.space.plan_configuration import plan_options


def with_costs_of(dense: DenseModel, plan: Plan, settings: SearchSettings) -> DenseModel:
    """Return the dense model with costs for the options of a plan, whatever was searched."""
    block_options, table = plan_options(dense.structure, plan), dense.costs.table
    if all(len(options) == 1 for options in block_options):
        return dense
    costs = CostModel(
        dense.structure,
        stored=dense.loaded.stored,
        context=settings.window_tokens,
        block_options=block_options,
    )
    return replace(dense, costs=costs if table is None else costs.timed(table))
