"""How many processes score where nobody says."""


def automatic_workers() -> int:
    """Return what ``--workers auto`` stands for: the search itself, with all threads of torch.

    Workers take their seconds to start, and each takes memory for hidden states of its own, so
    that they must be faster to be worth it. ``make bench-scale`` has a search by one process with
    all threads beside one by as many workers: on two cores both searched for 73 s, and with all
    that comes before and after, workers took 133 s and one process 116 s.
    """
    return 1
