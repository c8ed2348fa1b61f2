import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlm.trainer.permutation import Permutation


@given(size=st.integers(1, 3000), key=st.text(max_size=8))
def test_each_position_goes_to_one_place_and_comes_back(size: int, key: str) -> None:
    permutation, positions = Permutation(size, key), np.arange(size)
    moved = permutation.forward(positions)
    assert sorted(moved.tolist()) == positions.tolist()
    assert permutation.inverse(moved).tolist() == positions.tolist()


@given(size=st.integers(2**40, 2**61), data=st.data())
def test_it_needs_no_memory_for_any_size(size: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, size - 1))
    permutation = Permutation(size, "large")
    moved = permutation.forward(np.array([position]))
    assert 0 <= moved[0] < size
    assert permutation.inverse(moved).tolist() == [position]


def test_the_order_is_pinned() -> None:
    """Another order would make every sealed mixture another run."""
    assert Permutation(10, "0/pubmed/0").forward(np.arange(10)).tolist() == [0, 8, 2, 3, 1, 9, 4, 5, 6, 7]


def test_keys_give_orders_that_look_unrelated() -> None:
    first, second = (Permutation(10_000, key).forward(np.arange(10_000)) for key in ("0/pubmed/0", "0/pubmed/1"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert abs(np.corrcoef(first, np.arange(10_000))[0, 1]) < 0.05
    assert (first == second).sum() < 20


def test_a_position_outside_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not all inside 0\.\.9"):
        Permutation(10, "k").forward(np.array([10]))
