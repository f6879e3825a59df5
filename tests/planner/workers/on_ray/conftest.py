"""Ray for those tests that need it."""

from collections.abc import Iterator

import pytest

from planner.workers.on_ray.ray_cluster import ray_cluster


@pytest.fixture(scope="session")
def ray_here() -> Iterator[str]:
    """Ray on this machine, to which this process is connected; its address."""
    import ray

    with ray_cluster(None):
        yield ray.get_runtime_context().gcs_address
