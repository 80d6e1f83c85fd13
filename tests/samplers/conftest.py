"""One thread, so that the order of sums is fixed and tests do not compete for the machine's cores."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    pass
