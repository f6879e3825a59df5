import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.metric import COST_KINDS, METRICS, limitable_names, metric_names
from planner.settings.budget import Budget, Limit, relative_cost
from search_spaces.errors import BudgetError

DENSE = {"params": 134.5e6, "size": 269e6, "macs": 106e6, "kv": 46080.0}
MEASURED = {"latency": 2500.0, "throughput": 12.8}
"""32 tokens in 2.5 s."""
SMALLEST = {"params": 28.3e6, "size": 56.6e6, "macs": 28.3e6, "kv": 0.0}


def amounts(metric: str) -> st.SearchStrategy[Limit]:
    positive = st.floats(min_value=1e-9, max_value=1e15)
    relative = st.booleans() if metric in metric_names(*COST_KINDS) else st.just(False)
    return st.builds(Limit, metric=st.just(metric), value=positive, relative=relative)


budgets = (
    st.permutations(limitable_names())
    .flatmap(lambda names: st.tuples(*(amounts(name) for name in names)))
    .flatmap(lambda limits: st.integers(1, len(limits)).map(lambda n: limits[:n]))
    .map(lambda limits: Budget(limits=limits))
)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("params<=0.8x", "params <= 0.80x"),
        ("params<=100M", "PARAMS<=0.1B"),
        ("size<=67MB", "size<=0.067GB"),
        ("macs<=0.0011G", "macs<=1.1M/token"),
        ("kl<=0.1,params<=0.8x", "params<=0.8x,kl<=0.1"),
        ("params<=0.8x,kl<=0.1,size<=1MB", "params<=0.8x,size<=1000kB,kl<=0.10"),
    ],
)
def test_budgets_are_compared_by_value(text: str, other: str) -> None:
    assert Budget.parse(text) == Budget.parse(other)
    assert len({Budget.parse(text), Budget.parse(other)}) == 1


def test_bits_are_another_reading_of_size() -> None:
    budget, dense = Budget.parse("bits<=4.5,kl<=0.1"), {"size": 269e6, "bits": 16.0}
    assert str(budget) == "bits<=4.5,kl<=0.1"
    assert budget.cost_names == ("size",)  # which is minimised in its place
    assert budget.share("size", dense) == 4.5 / 16
    assert budget.costs_only().admits({"size": 269e6, "bits": 4.5}, dense)
    # fewer weights of more bits are as small, and no answer
    assert not budget.costs_only().admits({"size": 70e6, "bits": 4.6}, dense)
    with pytest.raises(BudgetError, match=r"bits 5 \(0\.313x\); ask for at least that"):
        budget.check_reachable(dense, {"size": 1.0, "bits": 5.0})


def test_an_amount_is_the_same_in_each_unit() -> None:
    for thousandths in range(1, 2000):
        whole = Budget.parse(f"size<={thousandths}MB")
        assert Budget.parse(f"size<={thousandths / 1000}GB") == whole
        assert Budget.parse(str(whole)) == whole


@pytest.mark.parametrize(
    "other",
    ["params<=0.8x", "size<=0.9x,params<=0.8x", "params<=0.8x,size<=0.9x,kl<=1"],
    ids=["fewer", "first cost", "more"],
)
def test_the_first_cost_is_part_of_a_budget(other: str) -> None:
    """The search spreads its front over it."""
    assert Budget.parse("params<=0.8x,size<=0.9x") != Budget.parse(other)


@given(budgets)
def test_a_budget_reads_back_what_it_writes(budget: Budget) -> None:
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "metric", "value"),
    [
        ("params<=100M", "params", 100_000_000),
        ("params <= 1.5b", "params", 1_500_000_000),
        ("params<=12345", "params", 12345),
        ("size<=180MB", "size", 180_000_000),
        ("SIZE<=180mib", "size", 180 * 1024 * 1024),
        ("size<=2 GB", "size", 2_000_000_000),
        ("size<=512B", "size", 512),
        ("macs<=3T", "macs", 3e12),
        ("macs<=106.5M/token", "macs", 106_500_000),
        ("kv<=46.1 kB/token", "kv", 46_100),
        ("kv<=1KiB", "kv", 1024),
        ("kv<=0", "kv", 0),
        ("active<=60M", "active", 60_000_000),
        ("loading<=50MB/token", "loading", 50_000_000),
        ("latency<=25ms", "latency", 25),
        ("latency <= 0.5 s", "latency", 500),
        ("latency<=25", "latency", 25),
        ("throughput>=40", "throughput", 40),
        ("throughput >= 12.5 tokens/s", "throughput", 12.5),
        ("kl<=0.05", "kl", 0.05),
        ("kl<=5e-2", "kl", 0.05),
    ],
)
def test_absolute_limits(text: str, metric: str, value: float) -> None:
    (limit,) = Budget.parse(text).limits
    assert (limit.metric, limit.relative) == (metric, False)
    assert limit.value == pytest.approx(value, rel=1e-15)


def test_a_budget_of_several_terms() -> None:
    budget = Budget.parse(" params<=0.7X , kl<=0.05,size <= 180MB ")
    assert budget.cost_names == ("params", "size")
    limits = [limit.absolute(DENSE) for limit in budget.limits]
    assert limits == pytest.approx([94.15e6, 0.05, 180e6])
    assert str(budget) == "params<=0.7x,kl<=0.05,size<=180MB"
    assert str(Budget.parse("size<=188743680,macs<=0.5g")) == "size<=180MiB,macs<=500M"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "NAME<=VALUE"),
        ("params<=0.7x,", "NAME<=VALUE"),
        ("params", "NAME<=VALUE"),
        ("parms<=0.7x", "did you mean `params`"),
        (
            "speed<=0.7x",
            "params, size, bits, macs, kv, nonzero, packed, active, active_size, loading",
        ),
        ("throughput<=1.5x", "write throughput>=1.5x"),
        ("latency>=25ms", "write latency<=25ms"),
        ("latency<=25ms/token", "a number in ms, s"),
        ("latency<=25MB", "a number in ms, s"),
        ("throughput>=40/s", "a number in tokens/s"),
        ("throughput>=0", "above 0"),
        ("params<=5M/token", "a number in K, M, B"),
        ("params>=0.7x", "only <="),
        ("params<0.7x", "only <="),
        ("params=0.7x", "write params<=0.7x"),
        ("params<=", "fix the value"),
        ("params<=lots", "a number in K, M, B"),
        ("params<=60%", "takes 0.7x, not 70%, for a share"),
        ("params<=180MB", "a number in"),
        ("size<=180M", "GIB"),
        ("params<=nan", "fix the value"),
        ("params<=1e999", "finite and at least 0"),
        ("params<=1e99999999999999999999", "finite and at least 0"),
        ("params<=0x", "above 0"),
        ("params<=-0.5x", "above 0"),
        ("params<=-5M", "at least 0"),
        ("kl<=-0.1", "at least 0"),
        ("kl<=0.5x", "absolute"),
        ("kl<=5M", "`kl` takes a number"),
        ("params<=0.7x,PARAMS<=100M", "keep one limit on `params`"),
    ],
)
def test_a_mistake_is_named(text: str, said: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text)
    assert said.lower() in str(caught.value).lower()
    assert ", got " in str(caught.value)


def test_admits_what_meets_every_limit() -> None:
    budget = Budget.parse("params<=0.7x,kl<=0.05")
    assert budget.admits({"params": 0.7 * 134.5e6, "kl": 0.05}, DENSE)
    assert not budget.admits({"params": 0.701 * 134.5e6, "kl": 0.05}, DENSE)
    assert not budget.admits({"params": 1.0, "kl": 0.0501}, DENSE)


def test_throughput_is_to_be_large() -> None:
    budget = Budget.parse("throughput>=1.5x,latency<=2s")
    assert str(budget) == "throughput>=1.5x,latency<=2s"
    assert budget.measured
    assert budget.cost_names == ("latency",)
    assert budget.admits({"throughput": 19.2, "latency": 2000}, MEASURED)
    assert not budget.admits({"throughput": 19.1, "latency": 2000}, MEASURED)
    assert not budget.admits({"throughput": 19.2, "latency": 2001}, MEASURED)
    # it asks for 1/1.5 of the latency, which is less than 2 s of 2.5
    assert budget.share("latency", MEASURED) == pytest.approx(1 / 1.5)
    assert Budget.parse("throughput>=0.1").share("latency", MEASURED) == 1.0
    assert Budget.parse("latency<=2s").share("latency", MEASURED) == pytest.approx(0.8)
    assert Budget.parse("params<=0.5x").share("latency", DENSE | MEASURED) is None


def test_the_limit_that_is_missed_most_counts() -> None:
    budget = Budget.parse("throughput>=20,latency<=2s")
    assert budget.excess({"throughput": 10, "latency": 1000}, MEASURED) == pytest.approx(0.5)
    assert budget.excess({"throughput": 19, "latency": 5000}, MEASURED) == pytest.approx(1.5)


@pytest.mark.parametrize("text", ["latency<=25ms", "params<=0.5x,throughput>=1.5x"])
def test_a_limit_on_what_was_not_measured_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match=r"needs a run that measured (latency|throughput), got"):
        Budget.parse(text).check_reachable(DENSE, SMALLEST)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latency<=0.1x", "latency 0.334x (833.4 ms); ask for at least that"),
        ("latency<=100ms", "latency 833.4 ms (0.334x); ask for at least that"),
        ("throughput>=4x", "throughput 2.999x (38.3 tokens/s); ask for at most that"),
        ("throughput>=100", "throughput 38.3 tokens/s (2.999x); ask for at most that"),
    ],
)
def test_what_can_be_reached_is_never_rounded_for_the_better(text: str, said: str) -> None:
    smallest = {"latency": 833.34, "throughput": 38.396}
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text).check_reachable(MEASURED, smallest)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("params<=0.05x", "params 0.211x (28.3M)"),
        ("params<=5M", "params 28.3M (0.211x)"),
        ("kl<=0.1,size<=1MB", "size 56.6 MB (0.211x)"),
    ],
)
def test_an_unreachable_budget_says_what_can_be_reached(text: str, said: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text).check_reachable(DENSE, SMALLEST)
    assert said in str(caught.value)


def test_a_model_of_which_nothing_can_be_pruned_is_said_to_be_so() -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse("params<=0.5x").check_reachable(DENSE, DENSE)
    said = str(caught.value)
    assert ", as the dense one: nothing can be pruned here that changes it; choose more" in said
    assert "ask for" not in said


@given(
    st.sampled_from(metric_names(*COST_KINDS)),
    st.booleans(),
    st.floats(min_value=1.0, max_value=1e11),
    st.floats(min_value=1.0, max_value=100.0),
)
def test_what_the_message_offers_can_be_reached(
    name: str, relative: bool, best: float, ratio: float
) -> None:
    upward = name == "throughput"
    dense = {name: best / ratio if upward else best * ratio}
    limit = Limit(metric=name, value=1e20 if upward else 1e-9, relative=relative)
    with pytest.raises(BudgetError) as caught:
        Budget(limits=(limit,)).check_reachable(dense, {name: best})
    offered = str(caught.value).partition(f"has {name} ")[2].partition(" (")[0]
    Budget.parse(f"{name}{limit.operator}{offered}").check_reachable(dense, {name: best})


def test_a_budget_that_can_be_met_passes() -> None:
    Budget.parse("params<=0.3x,kv<=0,kl<=0").check_reachable(DENSE, SMALLEST)


def test_a_model_without_a_cost_has_a_share_of_none() -> None:
    assert relative_cost("kv", 0.0, {"kv": 0.0}) == 0.0
    assert relative_cost("params", 50.0, {"params": 200.0}) == 0.25


@pytest.mark.parametrize("text", ["active<=0.5x", "loading<=50MB", "params<=0.5x,active<=10M"])
def test_a_dense_model_has_no_experts_to_limit(text: str) -> None:
    with pytest.raises(BudgetError, match="needs a mixture of experts, got a model that runs all"):
        Budget.parse(text).check_reachable(DENSE, SMALLEST)
    dense, smallest = ({**costs, "active": 60e6, "loading": 100e6} for costs in (DENSE, SMALLEST))
    smallest |= {"active": 5e6, "loading": 0.0}
    Budget.parse(text).check_reachable(dense, smallest)


@given(st.sampled_from(metric_names(*COST_KINDS)), st.floats(min_value=1.0, max_value=1e12))
def test_a_shown_amount_can_be_asked_for(name: str, value: float) -> None:
    operator = ">=" if name == "throughput" else "<="
    (limit,) = Budget.parse(f"{name}{operator}{METRICS[name].amount(value)}").limits
    assert limit.value == pytest.approx(value, rel=0.51)
    if value > 1000:
        assert limit.value == pytest.approx(value, rel=0.051)
