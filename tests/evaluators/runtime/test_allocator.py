import ctypes
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from evaluators.runtime.allocator import MMAP_THRESHOLD, NEVER, TRIM_THRESHOLD, keep_pages

FAULTS = """
import resource, sys
from evaluators.runtime.allocator import keep_pages
if sys.argv[1] == "keep" and not keep_pages():
    sys.exit(3)
bytearray(2**26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(2**26)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("not glibc")
    return int(done.stdout)


def test_a_freed_block_is_used_again_without_page_faults() -> None:
    assert faults("keep") < faults("leave") / 10


def keep_with(monkeypatch: pytest.MonkeyPatch, library: object) -> bool:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    return keep_pages.__wrapped__()


def test_a_glibc_with_an_upper_limit_gets_the_largest_threshold_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[int, int] = {}

    def mallopt(option: int, value: int) -> int:
        if option == MMAP_THRESHOLD and value > 32 * 2**20:  # mallopt(3): the limit on 64 bits
            return 0
        options[option] = value
        return 1

    assert keep_with(monkeypatch, SimpleNamespace(mallopt=mallopt))
    assert options == {MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: NEVER}


@pytest.mark.parametrize("mallopt", [None, lambda _option, _value: 0])
def test_other_libraries_are_left_alone(
    mallopt: Callable[[int, int], int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = SimpleNamespace() if mallopt is None else SimpleNamespace(mallopt=mallopt)
    assert not keep_with(monkeypatch, library)
