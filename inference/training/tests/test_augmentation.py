"""Each augmentation's promises, over random histories; and what of them training sees."""

import itertools
import unittest
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from freshet_training import augmentation
from freshet_training.augmentation import (
    NEIGHBOURS,
    Augmenter,
    crop,
    insert,
    mask,
    neighbours,
    noise,
    parse,
    reorder,
    substitute,
    windows,
)
from freshet_training.packing import pack
from freshet_training.sequences import History
from freshet_training.train import batch_loss
from tests.support import objective, random_history, random_model

ITEMS = 30
Change = Callable[[History, np.random.Generator], History]


def random_histories(seed: int, count: int = 60) -> list[History]:
    """In order of time, of 2 events and more; some have been augmented before."""
    random = np.random.default_rng(seed)
    histories = [random_history(random, int(random.integers(2, 80)), ITEMS) for _ in range(count)]
    ordered = [replace(history, times=np.sort(history.times)) for history in histories]
    return [mask(history, random, 0.3) if index % 3 == 0 else history for index, history in enumerate(ordered)]


def events(history: History) -> list[tuple[int, int, int]]:
    """(item, type, target) of each."""
    return list(zip(history.items.tolist(), history.types.tolist(), history.wanted.tolist()))


def same(a: History, b: History) -> bool:
    return events(a) == events(b) and a.times.tolist() == b.times.tolist()


def copy(history: History) -> History:
    return replace(history, **{name: getattr(history, name).copy() for name in ("items", "types", "times")})


HISTORIES = random_histories(1)
NEAR = neighbours(HISTORIES, ITEMS)
CHANGES: dict[str, Change] = {
    "crop": lambda history, random: crop(history, random, 0.6),
    "mask": lambda history, random: mask(history, random, 0.2),
    "reorder": lambda history, random: reorder(history, random, 0.4),
    "substitute": lambda history, random: substitute(history, random, 0.3, NEAR),
    "insert": lambda history, random: insert(history, random, 0.3, NEAR),
    "noise": lambda history, random: noise(history, random, 0.2, 0.5, ITEMS),
}


class Properties(unittest.TestCase):
    def changed(self, name: str) -> list[tuple[History, History]]:
        random = np.random.default_rng(2)
        return [(history, CHANGES[name](history, random)) for history in HISTORIES]

    def test_all_of_them(self) -> None:
        for name, change in CHANGES.items():
            anything = False
            for seed, history in enumerate(HISTORIES):
                with self.subTest(augmentation=name, seed=seed):
                    before = copy(history)
                    found = change(history, np.random.default_rng(seed))
                    self.assertTrue(same(history, before), "the given history stays as it is")
                    self.assertTrue(same(found, change(history, np.random.default_rng(seed))), "one seed, one result")
                    self.assertEqual({len(found)}, {len(found.types), len(found.times), len(found.wanted)})
                    self.assertTrue((np.diff(found.times) >= 0).all())
                    self.assertTrue(((found.items >= 0) & (found.items < ITEMS)).all())
                    self.assertEqual((found.items.dtype, found.times.dtype), (np.int32, np.int64))
                    self.assertFalse(Counter(found.wanted.tolist()) - Counter([0] * 99 + history.wanted.tolist()))
                    anything |= not same(found, history)
            self.assertTrue(anything, name)

    def test_crop_is_a_stretch(self) -> None:
        begins = set()
        for history, found in self.changed("crop"):
            self.assertEqual(len(found), max(2, int(0.6 * len(history))))
            stretches = [history.slice(b, b + len(found)) for b in range(len(history) - len(found) + 1)]
            here = [begin for begin, stretch in enumerate(stretches) if same(stretch, found)]
            self.assertTrue(here)
            begins.add(here[0])
        self.assertGreater(len(begins), 10)

    def test_mask_hides_inputs_and_keeps_targets(self) -> None:
        for history, found in self.changed("mask"):
            self.assertEqual(found.wanted.tolist(), history.wanted.tolist())
            self.assertEqual(found.types.tolist(), history.types.tolist())
            hidden = found.items != history.items
            self.assertFalse(found.items[hidden].any())
            self.assertLessEqual(hidden.sum(), max(1, int(0.2 * len(history))))

    def test_reorder_moves_events_whole_within_a_stretch(self) -> None:
        for history, found in self.changed("reorder"):
            self.assertEqual(found.times.tolist(), history.times.tolist())
            self.assertEqual(Counter(events(found)), Counter(events(history)))
            moved = [at for at, pair in enumerate(zip(events(found), events(history))) if pair[0] != pair[1]]
            if moved:
                self.assertLess(moved[-1] - moved[0], max(2, int(0.4 * len(history))))

    def test_substitute_takes_neighbours_and_keeps_targets(self) -> None:
        for history, found in self.changed("substitute"):
            self.assertEqual(found.wanted.tolist(), history.wanted.tolist())
            for old, new in zip(history.items.tolist(), found.items.tolist()):
                self.assertTrue(old == new or new in NEAR[old].tolist())

    def test_insert_adds_inputs_that_are_no_targets(self) -> None:
        for history, found in self.changed("insert"):
            added = [at for at in range(len(found)) if at and found.wanted[at] == 0]
            # What was there is still there, in its order: taking the added events away again gives the history.
            rest, at = [], 0
            for event in zip(events(found), found.times.tolist()):
                if at < len(history) and event == (events(history)[at], history.times.tolist()[at]):
                    rest.append(event)
                    at += 1
            self.assertEqual(at, len(history))
            self.assertEqual(events(found)[-1], events(history)[-1])
            if 0 not in history.wanted:
                self.assertEqual(len(added), len(found) - len(history))
                for place in added:
                    earlier = [found.items[p] for p in range(place) if p not in added]
                    self.assertIn(found.items[place], NEAR[earlier[-1]])

    def test_noise(self) -> None:
        stretched = 0
        for history, found in self.changed("noise"):
            self.assertEqual(found.wanted.tolist(), history.wanted.tolist())
            self.assertEqual(found.times[0], history.times[0])
            gaps, new = np.diff(history.times), np.diff(found.times)
            self.assertTrue((new[gaps == 0] == 0).all())
            self.assertTrue((new <= gaps * np.exp(0.5 * 6) + 1).all())
            stretched += int((new != gaps).sum())
        self.assertGreater(stretched, 100)
        strange = np.concatenate([found.items != history.items for history, found in self.changed("noise")])
        self.assertTrue(0.15 < strange.mean() < 0.25, strange.mean())

    def test_times_that_ran_backwards_may_still(self) -> None:
        random = np.random.default_rng(3)
        for _ in range(50):
            history = random_history(random, 40)
            fell = np.diff(history.times) < 0
            for name in ("mask", "reorder", "substitute", "noise"):
                found = np.diff(CHANGES[name](history, random).times) < 0
                self.assertFalse((found & ~fell).any(), name)
            self.assertEqual((np.diff(insert(history, random, 0.3, NEAR).times) < 0).sum(), fell.sum())

    def test_windows_overlap_and_lose_no_step(self) -> None:
        random = np.random.default_rng(4)
        for history, (length, stride) in itertools.product(HISTORIES, ((10, 5), (2, 1), (20, 19), (30, 1))):
            pieces = windows(history, random, length, stride)
            if len(history) <= length:
                self.assertTrue(len(pieces) == 1 and same(pieces[0], history))
                continue
            steps = Counter(pair for piece in pieces for pair in itertools.pairwise(events(piece)))
            self.assertEqual(set(steps), set(itertools.pairwise(events(history))))
            self.assertTrue(all(2 <= len(piece) <= length for piece in pieces))
            self.assertEqual({len(piece) for piece in pieces[1:-1]} - {length}, set())
        cuts = {len(windows(HISTORIES[1], np.random.default_rng(seed), 20, 10)[0]) for seed in range(40)}
        self.assertGreater(len(cuts), 5, "the first cut is drawn")


class Neighbours(unittest.TestCase):
    def test_counts_what_is_near(self) -> None:
        row = np.array([1, 2, 1, 2, 3, 0, 0, 0, 0, 0, 4], np.int32)
        found = neighbours([History(row, row, np.arange(len(row)))], 6)
        self.assertEqual(found.shape, (6, NEIGHBOURS))
        # pairs: 1-2 three times, 1-3 and 2-3 twice; 4 is six events from 3. Each of 1, 2 and 3 is in 5, 5 and 4 pairs.
        self.assertEqual(found[1].tolist(), [2, 3, 0, 0, 0])
        self.assertEqual(found[2].tolist(), [1, 3, 0, 0, 0])
        self.assertFalse(found[0].any() or found[4].any() or found[5].any())

    def test_equals_counting_by_hand(self) -> None:
        pairs: Counter[tuple[int, int]] = Counter()
        for history in HISTORIES:
            for at, distance in itertools.product(range(len(history)), range(1, 6)):
                if at + distance < len(history):
                    a, b = history.items[at], history.items[at + distance]
                    if a and b and a != b:
                        pairs[a, b] += 1
                        pairs[b, a] += 1
        total = Counter[int]()
        for (a, _), count in pairs.items():
            total[a] += count
        for item in range(1, ITEMS):
            cosine = {b: n / (total[a] * total[b]) ** 0.5 for (a, b), n in pairs.items() if a == item}
            best = sorted(cosine.values(), reverse=True)[:NEIGHBOURS]
            np.testing.assert_allclose([cosine[other] for other in NEAR[item]], best)

    def test_nothing_near_changes_nothing(self) -> None:
        empty = np.zeros((ITEMS, NEIGHBOURS), np.int32)
        random = np.random.default_rng(5)
        for history in HISTORIES:
            self.assertTrue(same(substitute(history, random, 0.5, empty), history))
            self.assertTrue(same(insert(history, random, 0.5, empty), history))


class Training(unittest.TestCase):
    def test_targets_reach_the_loss(self) -> None:
        """A masked, a substituted and a noisy history ask for the same items; only the inputs differ."""
        history = random_histories(6)[1]
        found = insert(substitute(history, np.random.default_rng(7), 0.5, NEAR), np.random.default_rng(8), 0.5, NEAR)
        packed = pack([found], 5)
        self.assertEqual(packed.items[packed.real].tolist(), found.items.tolist())
        self.assertEqual(packed.targets[packed.real].tolist(), found.wanted.tolist())
        asked: list[torch.Tensor] = []
        model = random_model(1, items=ITEMS)
        recorder = objective(model, [history])
        recorder.loss = lambda *arguments: asked.append(arguments[2])  # type: ignore
        batch_loss(model, [history], recorder)
        batch_loss(model, [found], recorder)
        real = history.wanted[1:]
        self.assertEqual(asked[0].tolist(), (real[real > 0] - 1).tolist())
        self.assertEqual(asked[1].tolist(), asked[0].tolist())

    def test_probability_and_order(self) -> None:
        augment = Augmenter([parse("mask=0.25:1")], HISTORIES, ITEMS)
        found = augment(HISTORIES * 20, np.random.default_rng(9))
        share = np.mean([not history.items.any() for history in found])
        self.assertTrue(0.2 < share < 0.3, share)
        both = Augmenter([parse("crop=1:0.5"), parse("windows=1:10:5")], HISTORIES, ITEMS)
        for history in HISTORIES:
            pieces = both([history], np.random.default_rng(10))
            kept = max(2, int(0.5 * len(history)))
            self.assertLess(max(map(len, pieces)), 11)
            self.assertGreaterEqual(sum(map(len, pieces)), kept)

    def test_without_augmentation_nothing_is_drawn(self) -> None:
        random = np.random.default_rng(11)
        self.assertEqual(Augmenter((), HISTORIES, ITEMS)(HISTORIES, random), HISTORIES)
        self.assertEqual(random.random(), np.random.default_rng(11).random())


class Syntax(unittest.TestCase):
    def test_defaults(self) -> None:
        self.assertEqual(parse("crop=0.3"), augmentation.Augmentation("crop", 0.3, (0.7,)))
        self.assertEqual(parse("noise=1:0.2").parameters, (0.2, 0.1))
        self.assertEqual(parse("windows=0.5").parameters, (50, 25))
        self.assertEqual(parse("windows=0.5:80").parameters, (80, 40))
        self.assertEqual(parse("windows=0.5:80:10").parameters, (80, 10))

    def test_errors_say_what_was_expected(self) -> None:
        for text, expected in (
            ("blur=0.1", "expected NAME=PROBABILITY with NAME one of crop, mask, reorder, substitute, insert, noise"),
            ("crop", r"expected crop=PROBABILITY\[:SHARE\], PROBABILITY a number from 0 to 1"),
            ("crop=2", "PROBABILITY a number from 0 to 1"),
            ("crop=0.1:x", "SHARE a number from 0 to 1"),
            ("crop=0.1:0.5:3", r"expected crop=PROBABILITY\[:SHARE\]"),
            ("noise=0.1:0.1:-1", "JITTER a number from 0 to 5"),
            ("windows=0.1:10:10", "STRIDE below LENGTH"),
        ):
            with self.subTest(text), self.assertRaisesRegex(ValueError, f"{text}: .*{expected}"):
                parse(text)


if __name__ == "__main__":
    unittest.main()
