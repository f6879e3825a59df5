"""Settings of a search that must go together."""

from typing import TYPE_CHECKING, NoReturn, get_args

from planner.searchers import TO_ONE_LIMIT
from planner.settings.limits import check_own_text
from search_spaces.errors import BudgetError, SettingsError
from search_spaces.priors import AllocationName
from search_spaces.suggestions import shown

if TYPE_CHECKING:
    from planner.settings.search import SearchSettings


def check_agreement(settings: "SearchSettings") -> None:
    """Refuse settings that the space has no use for, a limit or text that others lack.

    Raises:
        BudgetError: If the budget limits no cost where one must be limited.
        SettingsError: If there is such a method.
    """
    _check_limit(settings)
    _check_text(settings)
    _check_pipeline(settings)
    _check_workers(settings)
    if settings.formats is not None and not settings.space.formats:
        rule = "`formats` are chosen from where the space has them"
        _refuse(rule, str(settings.space), "add `formats` to `--space`, or leave them out")
    if settings.runtime != "torch" and not (settings.budget and settings.budget.measured):
        rule = f"`runtime` {settings.runtime} needs a budget on what is measured in it"
        remedy = "set one such as `--budget 'latency<=0.7x'`, or leave it out"
        _refuse(rule, str(settings.budget or "none"), remedy)
    choices, (_, refinement, merges) = settings.space, settings.compensate
    if merges and not choices.experts:
        rule = "`compensate` merge needs a space with experts"
        _refuse(rule, str(settings.space), "add `experts` to `--space`, or leave it out")
    if settings.expert_importance == "router_change" and settings.pretrained_router is None:
        rule = "`expert_importance` router_change needs the router before fine-tuning"
        _refuse(rule, "none", "name the folder of that model with `--pretrained_router`")
    if settings.expert_importance != "router_change" and settings.pretrained_router is not None:
        rule = "`pretrained_router` is read for the expert importance router_change alone"
        _refuse(
            rule,
            settings.expert_importance,
            "set `--expert_importance router_change`, or leave it out",
        )
    if refinement and not choices.sparse:
        rule = f"`compensate` {refinement} needs a space with sparsity"
        _refuse(rule, str(settings.space), "add `sparsity` or `2:4` to `--space`, or leave it out")
    if settings.prior in get_args(AllocationName) and not choices.sparse:
        rule = f"`prior` {settings.prior} shares out sparsity, and needs a space with some"
        _refuse(rule, str(settings.space), "add `sparsity` to `--space`, or set another prior")


def _check_limit(settings: "SearchSettings") -> None:
    """Refuse a budget that limits no cost where a limit is needed.

    Raises:
        BudgetError: If it limits none.
    """
    if settings.focus == "budget":
        option = "`--focus budget`"
    elif settings.searcher in TO_ONE_LIMIT:
        option = f"`--searcher {settings.searcher}`"
    else:
        return
    if settings.budget is None or not settings.budget.cost_names:
        raise BudgetError(
            f"{option} needs a budget that limits a cost, got {settings.budget or 'none'}; "
            "set one such as `--budget 'params<=0.7x'`"
        )


def _check_pipeline(settings: "SearchSettings") -> None:
    """Refuse a pipeline that has one stage, or whose model is to be loaded whole.

    Raises:
        SettingsError: If it is one.
    """
    if settings.pipeline and settings.workers in {"auto", "ray", 1}:
        rule = "`pipeline` needs 2 `workers` at least, each for some of the layers"
        _refuse(rule, settings.workers, "set `--workers 2`, or leave out `--pipeline`")
    if settings.pipeline and settings.offload == "never":
        rule = "`pipeline` reads layers from disk where they are held"
        _refuse(rule, "`--offload never`", "leave out one of both")


def _check_workers(settings: "SearchSettings") -> None:
    """Refuse a cluster that nobody uses, or workers there without devices.

    Raises:
        SettingsError: If there is either.
    """
    if settings.workers == "ray":
        if settings.worker_devices is None:
            rule = "`workers` ray needs to know how many, and what each has"
            _refuse(rule, "none", "set `--worker_devices` such as `8xcuda` or `4xcpu:2`")
        return
    for name in ("ray", "worker_devices"):
        if getattr(settings, name) is not None:
            rule = f"`{name}` is of `workers` ray alone"
            _refuse(rule, f"`workers` {settings.workers}", "set `--workers ray`, or leave it out")


def _check_text(settings: "SearchSettings") -> None:
    """Refuse text that is too little or too much for what is to be done with it.

    Raises:
        SettingsError: If there is either.
    """
    if settings.recover != "none" and settings.calibration_windows == 1:
        rule = "`recover` needs two `calibration_windows` at least, one to compare on"
        _refuse(rule, 1, "ask for more, or leave out one of both")
    if settings.data is not None:
        return
    if settings.holdout is not None:
        rule = "`holdout` must come with `data`, for a model's own text is held out by itself"
        _refuse(rule, shown(settings.holdout), "set `--data` too")
    names = ("search_windows", "fresh_windows", "holdout_windows", "calibration_windows")
    check_own_text({name: getattr(settings, name) or 0 for name in names}, settings.window_tokens)


def _refuse(rule: str, got: object, remedy: str) -> NoReturn:
    raise SettingsError(f"{rule}, got {got if isinstance(got, str) else shown(got)}; {remedy}")
