"""How many processes score where nobody says."""


def automatic_workers() -> int:
    """Return what ``--workers auto`` stands for: the search itself, with all threads of torch.

    Workers take their seconds to start, and each takes memory for hidden states of its own, so
    that they must be faster to be worth it. Whether they are, ``make bench-scale`` measures: its
    table has a search by one process with all threads beside one by as many workers.
    """
    return 1
