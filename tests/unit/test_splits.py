from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from _dataset_maker import make_windows
from hypothesis import given
from hypothesis import strategies as st

from neurodecode import splits
from neurodecode.contracts import Item
from neurosweep.core.errors import DataError


def names(items):
    return [item.item for item in items]


@given(
    folds=st.integers(2, 10),
    per_recording=st.integers(12, 40),
    recordings=st.integers(1, 3),
    epoched=st.booleans(),
)
def test_folds_cover_every_pool_item_once_in_contiguous_blocks(
    folds, per_recording, recordings, epoched
):
    windows = make_windows(
        ["pool"] * (per_recording * recordings), recordings=recordings, epoched=epoched
    )
    made = splits.make_folds(windows, folds)
    assert Counter(n for f in made for n in names(f.val)) == Counter(names(windows.items))
    for fold in made:
        together = names(fold.train) + names(fold.dev) + names(fold.val)
        assert len(set(together)) == len(together) == len(windows.items)
        for recording in {item.recording for item in windows.items}:
            numbers = [int(i.item[-3:]) // recordings for i in fold.val if i.recording == recording]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_official_split_is_kept_and_dev_is_the_end_of_training():
    windows = make_windows(["train"] * 10 + ["val"] * 5 + ["test"] * 3)
    (fold,) = splits.make_folds(replace(windows, dev_fraction=0.2), 1)
    assert names(fold.train) == names(windows.items[:8])
    assert names(fold.dev) == names(windows.items[8:10])
    assert names(fold.val) == names(windows.items[10:15])
    assert splits.test_items(windows) == windows.items[15:]
    assert splits.describe(windows, 1) == "as told"
    assert splits.unused_items(windows, 1) == 0


def test_cross_validation_leaves_official_val_and_test_out():
    windows = make_windows(["train"] * 10 + ["val"] * 5 + ["test"] * 3)
    made = splits.make_folds(windows, 5)
    used = {n for f in made for n in names(f.train) + names(f.dev) + names(f.val)}
    assert used == set(names(windows.items[:10]))
    assert splits.unused_items(windows, 5) == 5


def test_without_official_split_the_last_fifth_is_held_out():
    windows = make_windows(["pool"] * 20)
    (fold,) = splits.make_folds(windows, 1)
    assert names(fold.val) == names(windows.items[16:])
    assert "last of 5" in splits.describe(windows, 1)


def test_windows_that_touch_held_out_ones_are_purged():
    windows = make_windows(["pool"] * 90, spacing_s=0.3)
    fold = splits.make_folds(windows, 3)[1]
    held_out = [item.onsets_s[0] for item in (*fold.val, *fold.dev)]
    gaps = [abs(item.onsets_s[0] - onset) for item in fold.train for onset in held_out]
    assert min(gaps) >= 0.7 - 1e-9
    assert min(abs(d.onsets_s[0] - v.onsets_s[0]) for d in fold.dev for v in fold.val) >= 0.7 - 1e-9
    whole = splits.make_folds(replace(windows, epoched=True), 3)[1]
    assert len(whole.train) + len(whole.dev) + len(whole.val) == 90


def test_full_training_has_everything_but_the_test_part():
    windows = make_windows(["pool"] * 20 + ["test"] * 4)
    fold = splits.full_training(windows)
    assert set(names(fold.train) + names(fold.dev)) == set(names(windows.items[:20]))
    assert not fold.val


@pytest.mark.parametrize(
    ("parts", "folds", "message"),
    [
        (["pool"] * 3, 5, "3 items of s01/r0 cannot be cut into 5"),
        (["pool"] * 20, 0, "at least 1"),
        (["train", "val"], 1, "0 are left for training"),
    ],
)
def test_too_little_data_is_an_error(parts, folds, message):
    with pytest.raises(DataError, match=message):
        splits.make_folds(make_windows(parts), folds)


def test_permutation_keeps_counts_and_test_labels_and_changes_the_rest():
    windows = make_windows(["pool"] * 40 + ["test"] * 10, recordings=2)
    permuted = splits.permute_labels(windows, 7)
    assert permuted == splits.permute_labels(windows, 7)
    assert permuted != splits.permute_labels(windows, 8)
    assert splits.permute_labels(windows, 0) is windows
    before, after = windows.items, permuted.items
    assert before[40:] == after[40:]
    moved = sum(a.reference != b.reference for a, b in zip(before, after, strict=True))
    assert moved > 5
    for recording in ("r0", "r1"):
        counts = [
            Counter(i.reference for i in x if i.recording == recording) for x in (before, after)
        ]
        assert counts[0] == counts[1]
    for item in after:
        assert (item.reference, item.typed) == ("ab"[item.labels[0]],) * 2


def test_permuted_speller_items_carry_the_code_of_their_new_symbol():
    rng = np.random.default_rng(0)
    items = []
    for number in range(8):
        codes = rng.integers(0, 2, (10 + number, 3)).astype(np.uint8)
        symbol = number % 3
        labels = tuple(int(c) for c in codes[:, symbol])
        onsets = tuple(float(t) for t in range(len(labels)))
        text = "abc"[symbol]
        items.append(
            Item(f"s/r/t{number}", "train", onsets, labels, text, text, codes, ("a", "b", "c"))
        )
    windows = replace(make_windows(["train"]), items=tuple(items))
    for item in splits.permute_labels(windows, 3).items:
        assert item.labels == tuple(item.codes_WS[:, "abc".index(item.reference)])


def test_items_of_unequal_length_without_codes_cannot_be_permuted():
    windows = make_windows(["pool"] * 4)
    longer = replace(windows.items[0], labels=(0, 1), onsets_s=(0.0, 0.1))
    mixed = replace(windows, items=(longer, *windows.items[1:]))
    with pytest.raises(DataError, match="have 1 to 2 windows"):
        splits.permute_labels(mixed, 1)


def test_training_items_of_one_class_are_refused():
    windows = make_windows(["pool"] * 20)
    items = tuple(replace(i, labels=(int(k >= 16),)) for k, i in enumerate(windows.items))
    message = r"all \d+ training items of fold 4 are of the class 'a', at least two"
    with pytest.raises(DataError, match=message):
        splits.make_folds(replace(windows, items=items), 5)


def test_sentence_on_the_split_tells_of_the_sealed_test():
    windows = make_windows(["pool"] * 20 + ["test"] * 4)
    assert splits.describe(windows, 5).endswith(
        "validated once; the last items of a recording, 4 in all, are the sealed test"
    )
    other = make_windows(["pool", "test"] * 10, recordings=2)
    assert splits.describe(other, 1).endswith("; s01/r1 with 10 items is the sealed test")
    assert "test" not in splits.describe(make_windows(["pool"] * 20), 5)
