"""A little of tests/fuzz.py, which finds what nobody thought of; run it alone for longer."""
import pytest
from fuzz import fuzz


@pytest.mark.parametrize("seed", range(4))
def test_no_call_crashes_or_changes_its_arguments(seed):
    assert fuzz(2500, seed) is None
