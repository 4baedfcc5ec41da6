"""A little of tests/fuzz.py, which finds what nobody thought of; `make fuzz CALLS=1000000` runs it for longer."""
import pytest
from fuzz import fuzz


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_no_call_crashes_hangs_or_changes_its_arguments(seed):
    said = fuzz(4000, seed)
    assert said is None, said
