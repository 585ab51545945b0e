"""Which notebooks the default suite runs."""

import pytest

SLOW = ("03_explanations", "04_sweeps_and_statistics", "05_your_own_images", "06_inside_the_network")  # of minutes


@pytest.hookimpl(tryfirst=True)  # before pytest's own, which leaves out what is marked
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.suffix == ".ipynb" and item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
