"""Arrays that are no item trie are refused before anybody walks them, in time and memory of
their own size."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from shelftalk.decoding.item_trie import ItemTrie, build_trie, open_trie
from shelftalk.decoding.trie_files import ARRAYS, LONGEST_NAME, check_arrays
from shelftalk.errors import UnreadableFile

NAMES = [(1, 2, 9), (1, 2, 8, 7), (3, 9), (4, 5, 6, 9), (4, 5, 5, 9), (1, 3, 9)]


def arrays_of(names: list[tuple[int, ...]]) -> dict[str, np.ndarray]:
    trie = build_trie(names)
    return {name: getattr(trie, name).copy() for name in ARRAYS}


def test_the_files_are_the_arrays_of_a_trie():
    assert list(ARRAYS) == [field.name for field in fields(ItemTrie)]


def test_what_build_trie_makes_passes():
    long = [(*range(1, 300), last) for last in (1, 2)]
    for names in (NAMES, [(7,)], [(1,), (2,)], long):
        check_arrays(arrays_of(names))


@pytest.mark.parametrize("name", ARRAYS)
def test_no_single_number_can_be_another(name: str):
    """But for the tokens, which may be those of other names as long as they are in order; these the tokenizer
    is asked about."""
    free = ("token", "tail", "tail_bounds")
    whole = arrays_of(NAMES)
    for position in range(len(whole[name])):
        for number in (
            -2,
            -1,
            0,
            1,
            position,
            len(whole[name]),
            2**31 - 1,
            int(whole[name][position]) + 1,
            int(whole[name][position]) - 1,
        ):
            arrays = {key: array.copy() for key, array in whole.items()}
            arrays[name][position] = number
            if number == whole[name][position] or (name in free and number >= 0):
                continue
            with pytest.raises(ValueError):
                check_arrays(arrays)


@pytest.mark.parametrize("name", ARRAYS)
def test_no_array_can_be_longer_or_shorter(name: str):
    for change in (
        lambda array: array[:-1],
        lambda array: np.append(array, array[-1:]),
        lambda array: array[:0],
    ):
        arrays = arrays_of(NAMES)
        arrays[name] = change(arrays[name])
        with pytest.raises(ValueError):
            check_arrays(arrays)


def test_a_node_that_is_its_own_parent_and_a_circle_of_two_are_refused():
    for position, parent in ((3, 3), (3, 4)):
        arrays = arrays_of(NAMES)
        arrays["parent"][position] = parent
        with pytest.raises(ValueError, match="not above"):
            check_arrays(arrays)


def test_a_trie_deeper_than_any_name_is_refused():
    with pytest.raises(ValueError, match=f"more than {LONGEST_NAME} tokens"):
        check_arrays(arrays_of([(*[1] * (LONGEST_NAME + 1), last) for last in (1, 2)]))
    with pytest.raises(ValueError, match=f"more than {LONGEST_NAME} tokens"):
        check_arrays(arrays_of([(*range(1, LONGEST_NAME + 5),), (9999, 1)]))


def test_tokens_below_a_node_are_in_order():
    arrays = arrays_of(NAMES)
    arrays["token"][1:4] = arrays["token"][[3, 2, 1]]
    with pytest.raises(ValueError, match="not sorted"):
        check_arrays(arrays)


def test_bounds_of_tails_that_go_back_are_refused():
    arrays = arrays_of(NAMES)
    arrays["tail_bounds"][1:3] = arrays["tail_bounds"][-1], 0
    with pytest.raises(ValueError, match="does not divide"):
        check_arrays(arrays)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, 2], np.int64),
        np.array([1.5]),
        np.zeros((2, 2), np.int32),
        np.array(1, np.int32),
        np.array([{}], object),
        np.zeros(2, ">i4"),
        np.zeros(0, np.int32),
    ],
)
def test_an_array_of_another_kind_is_one_sentence(array: np.ndarray, tmp_path: Path):
    build_trie(NAMES).save(tmp_path)
    np.save(tmp_path / "parent.npy", array, allow_pickle=True)
    with pytest.raises(
        UnreadableFile, match="not a whole item trie .*; delete that folder, and the trie is made anew"
    ):
        open_trie(tmp_path)


@pytest.mark.parametrize(
    "shape", ["(4611686018427387904,)", "(-1,)", "(9, 9)", "(1e3,)", "[9]", "(__import__('os').getpid(),)"]
)
def test_a_header_that_lies_is_one_sentence(shape: str, tmp_path: Path):
    build_trie(NAMES).save(tmp_path)
    header = f"{{'descr': '<i4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 64
    (tmp_path / "parent.npy").write_bytes(content)
    with pytest.raises(UnreadableFile, match="not a whole item trie"):
        open_trie(tmp_path)
