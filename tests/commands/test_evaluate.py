"""`freshet evaluate`: its figures, counted anew from what `replay` answers, and what it refuses."""

import json
import math
import random

from support import SEED, START_MS, CommandTest, as_lines, event, main, read_output, write_model

ITEMS = [f"i{n}" for n in range(1, 41)]
CUTOFFS = (1, 5, 10, 20, 50, 100)
BASELINES = ["popularity", "popularity_recent", "covisitation_last", "covisitation_20", "item_knn"]


class EvaluateTest(CommandTest):
    USERS, EVENTS = 60, 12  # a history that fits what 2 layers with a window of 8 keep

    def setUp(self):
        super().setUp()
        write_model(self.path("model"), ITEMS)
        numbers = random.Random(SEED)
        self.log = [
            event(f"u{user}", f"i{1 + min(int(numbers.expovariate(0.07)), 44)}", 1_506_826_800_000 + 7000 * n)
            for n in range(self.EVENTS) for user in range(self.USERS) if n > 1 or user % 5
        ]  # fmt: skip
        self.users = {}
        for entry in self.log:
            self.users.setdefault(entry["user_id"], []).append(entry["item_id"])

    def metrics(self, ranks, tops):
        """The record's figures from each user's rank of the target (None: no candidate) and best items."""
        count, found = len(ranks), [rank for rank in ranks if rank is not None]
        expected = {"mrr": sum(1 / rank for rank in found) / count}
        known = [item for items in self.users.values() for item in items[:-1]]
        bits = {item: math.log2((len(known) + len(ITEMS)) / (known.count(item) + 1)) for item in ITEMS}
        for k in CUTOFFS:
            hits = [rank for rank in found if rank <= k]
            expected[f"hr@{k}"] = expected[f"recall@{k}"] = len(hits) / count
            expected[f"ndcg@{k}"] = sum(1 / math.log2(rank + 1) for rank in hits) / count
            expected[f"precision@{k}"] = len(hits) / k / count
            expected[f"f1@{k}"] = 2 * len(hits) / (k + 1) / count
            expected[f"coverage@{k}"] = len({item for top in tops for item in top[:k]}) / len(ITEMS)
            shown = [bits[item] for top in tops for item in top[:k]]
            expected[f"novelty@{k}"] = sum(shown) / len(shown)
        return expected

    def model_ranks(self):
        """From the recommendations after each user's last event but one, the whole catalogue ranked."""
        left = {user: len(items) - 1 for user, items in self.users.items()}
        histories = []
        for entry in self.log:
            if left[entry["user_id"]] > 0:
                histories.append(entry)
                left[entry["user_id"]] -= 1
        self.replay(self.write("histories.jsonl", as_lines(histories)), emit="final", recommend__top_k=len(ITEMS))
        answers = {record["user_id"]: record["items"] for record in read_output(self.path("out.jsonl"))}
        ranks, tops = [], []
        for user, items in self.users.items():
            scores = {item["item_id"]: item["score"] for item in answers[user]}
            self.assertEqual(scores.keys(), set(ITEMS) - set(items[:-1]))
            target = scores.get(items[-1])
            ranks.append(None if target is None else sum(score >= target for score in scores.values()))
            tops.append(list(scores))
        return ranks, tops

    def popularity_ranks(self):
        counts = {item: 0 for item in ITEMS}
        for items in self.users.values():
            for item in items[:-1]:
                if item in counts:
                    counts[item] += 1
        ranks, tops = [], []
        for items in self.users.values():
            left = {item: count for item, count in counts.items() if item not in items[:-1]}
            target = left.get(items[-1])
            ranks.append(None if target is None else sum(count >= target for count in left.values()))
            tops.append(sorted(left, key=lambda item: -left[item]))
        return ranks, tops

    def test_leave_one_out(self):
        events = self.write("events.jsonl", as_lines(self.log))
        done = self.run_program("evaluate", "--input", events, "--json", "accuracy.json", settings=self.settings())
        found = json.loads(self.path("accuracy.json").read_text())
        self.assertEqual(list(found), ["protocol", "model", "baselines"])
        ranks, tops = self.model_ranks()
        expected = self.metrics(ranks, tops)
        self.assertGreater(expected["hr@10"], 0)
        version = json.loads(self.run_program("model", "inspect", "model", "--json").stdout)["version"]
        self.assertEqual((found["model"].pop("name"), found["model"].pop("version")), ("model", version))
        self.assert_metrics(found["model"], expected)
        self.assert_metrics(found["baselines"]["popularity"], self.metrics(*self.popularity_ranks()))
        self.assertEqual(list(found["baselines"]), BASELINES)
        targets = [(items[-1], items[:-1]) for items in self.users.values()]
        unknown = sum(target not in ITEMS for target, _ in targets)
        self.assertEqual(found["protocol"], {
            "name": "leave-one-out", "cases": self.USERS, "users": self.USERS, "candidates": len(ITEMS),
            "exclude_seen": True, "ties": "against the model", "order": "log", "out_of_order": 0,
            "out_of_order_in_user": 0, "log_items": len({entry["item_id"] for entry in self.log}),
            "known_items": len({entry["item_id"] for entry in self.log} & set(ITEMS)),
            "unknown_targets": unknown,
            "seen_targets": sum(target in ITEMS and target in history for target, history in targets),
            "baselines_rank": "items of the model", "popularity_hours": 1,
            "slices": {"head_share": 0.2, "new_user_events": 5},
            "intervals": {"level": 0.95, "by": "bootstrap over users", "resamples": 1000, "permutations": 10_000,
                          "seed": 1},
        })  # fmt: skip
        lines = done.stdout.splitlines()
        table = {line.split()[0]: line.split()[1:] for line in lines[lines.index("") - 6 : lines.index("")]}
        self.assertEqual(list(table), ["model", *BASELINES])
        for shown, key in zip(table["model"], ("hr@10", "ndcg@10", "f1@10", "mrr", "hr@1", "hr@100", "coverage@10")):
            self.assertAlmostEqual(float(shown), expected[key], delta=6e-5)

    def assert_metrics(self, found, expected):
        self.assertEqual(found.keys() - {"intervals", "slices", "candidates"}, expected.keys())
        for key, (low, high) in found["intervals"].items():
            self.assertTrue(low <= expected[key] <= high, key)
        for key, value in expected.items():
            self.assertAlmostEqual(found[key], value, delta=1e-9, msg=key)

    def test_seen_items_kept(self):
        events = self.write("events.jsonl", as_lines(self.log))
        settings = self.settings(recommend__exclude_seen="false")
        self.run_program("evaluate", "--input", events, "--json", "kept.json", settings=settings)
        protocol = json.loads(self.path("kept.json").read_text())["protocol"]
        self.assertEqual((protocol["exclude_seen"], protocol["seen_targets"]), (False, 0))

    def test_a_report_that_cannot_be_written(self):
        events = self.write("events.jsonl", as_lines(self.log))
        done = self.run_program(
            "evaluate", "--input", events, "--json", "no/where.json", settings=self.settings(), expect=1
        )
        self.assert_error(done.stderr, "--json: no/where.json: cannot be created: No such file or directory")
        self.assertEqual((done.stdout, len(done.stderr.splitlines())), ("", 1), "before any work")
        done = self.run_program("evaluate", "--input", events, "--json", "x.bz2", settings=self.settings(), expect=2)
        self.assert_error(done.stderr, "--json: x.bz2: cannot write .bz2, expected a name that ends in .gz, .zst or")

    def test_a_model_of_another_log(self):
        events = self.write("events.jsonl", as_lines(self.log))
        items = len({entry["item_id"] for entry in self.log})
        write_model(self.path("stranger"), ["x1", "x2"])
        write_model(self.path("half"), ITEMS[:10])
        known = sum(entry["item_id"] in ITEMS[:10] for entry in self.log)
        stranger = self.settings(model__directory=self.path("stranger"))
        done = self.run_program("evaluate", "--input", events, "--json", "x.json", settings=stranger, expect=3)
        self.assert_error(done.stderr, f"model.directory: {self.path('stranger')}: knows none of the {items} items of --input")
        done = self.run_program("evaluate", "--input", events, "--compare", "stranger", settings=self.settings(), expect=3)
        self.assert_error(done.stderr, f"--compare: stranger: knows none of the {items} items")
        self.assertEqual((done.stdout, self.path("x.json").exists()), ("", False))
        done = self.run_program("evaluate", "--input", events, "--compare", "half", settings=self.settings())
        self.assertEqual(done.stderr.count(" items of --input"), 1)
        self.assertIn(f"--compare: half: knows 10 of the {items} items of --input, with {known} of its {len(self.log)} events",
                      done.stderr)  # fmt: skip
        # Of models that take over, one that knows the log is enough.
        words = ("evaluate", "--input", events, "--protocol", "prequential", "--model-from", "2017-01-01=model")
        self.assertIn("knows 0 of the", self.run_program(*words, settings=stranger).stderr)
        summary = self.replay(events, model__directory=self.path("stranger"))
        self.assertIn(f"stranger: knows the items of 0 of the {len(self.log)} events only", summary)
        self.assertNotIn("events only", self.replay(events, state="other"))

    def test_times_that_run_backwards(self):
        found, _ = self.evaluate(self.log[::-1])
        self.assertEqual(found["protocol"]["out_of_order_in_user"], len(self.log) - len(self.users))
        done = self.run_program("evaluate", "--input", "events.jsonl", settings=self.settings())
        self.assertIn(f"{len(self.log) - len(self.users)} events are earlier than the one before them of the same user "
                      "(events.jsonl, record ", done.stderr)  # fmt: skip
        self.assertIn("a user's last event in the log is then not the last that happened", done.stderr)

    def evaluate(self, log, *arguments, expect=0):
        """The report and standard output; where it fails, the error."""
        events = self.write("events.jsonl", as_lines(log))
        self.path("report.json").unlink(missing_ok=True)
        words = ["evaluate", "--input", events, "--json", "report.json", *arguments]
        done = self.run_program(*words, settings=self.settings(), expect=expect)
        if expect:
            self.assertFalse(self.path("report.json").exists())
            return done.stderr
        return json.loads(self.path("report.json").read_text()), done.stdout

    def test_the_hit_rate_that_replay_prints_is_that_of_a_prequential_evaluation(self):
        events = self.write("events.jsonl", as_lines(self.log))
        settings = {"recommend__top_k": 10, "recommend__exclude_seen": "false"}
        words = ("evaluate", "--input", events, "--protocol", "prequential", "--json", "report.json")
        self.run_program(*words, settings=self.settings(**settings))
        later = json.loads(self.path("report.json").read_text())["model"]["slices"]["later_events"]
        self.assertEqual(later["n"], len(self.log) - len(self.users))
        self.assertGreater(later["hr@10"], 0)
        hits = round(later["hr@10"] * later["n"])
        said = self.replay(events, **settings)
        self.assertIn(f" {hits} of {later['n']} events ({100 * later['hr@10']:.1f} %) were of an item in the list", said)
        self.assertNotIn("in the list", self.replay(events, state="none", emit="none", output=None))

    def test_prequential(self):
        """Each click's rank, from the answer that `replay` gives to the user's click before it."""
        numbers = random.Random(SEED)
        log = [
            event(f"u{numbers.randrange(25)}", f"i{1 + min(int(numbers.expovariate(0.07)), 44)}", START_MS + 60_000 * n)
            for n in range(400)
        ]
        begin = 100
        found, text = self.evaluate(log, "--protocol", "prequential", "--from", str(log[begin]["timestamp"]))
        self.replay(self.write("all.jsonl", as_lines(log)), recommend__top_k=len(ITEMS))
        records = read_output(self.path("out.jsonl"))
        answers = {(record["user_id"], record["sequence_number"]): record["items"] for record in records}
        seen, ranks = {}, []
        for number, entry in enumerate(log):
            history = seen.setdefault(entry["user_id"], [])
            if number >= begin and history:
                answer = answers[entry["user_id"], len(history)]
                # What `replay` leaves out: the items of the kept history, which the evaluation takes whole.
                scores = {item["item_id"]: item["score"] for item in answer if item["item_id"] not in history}
                target = scores.get(entry["item_id"])
                ranks.append(None if target is None else sum(score >= target for score in scores.values()))
            history.append(entry["item_id"])
        later = found["model"]["slices"]["later_events"]
        self.assertEqual(later["n"], len(ranks))
        hits = [rank for rank in ranks if rank is not None]
        self.assertAlmostEqual(later["mrr"], sum(1 / rank for rank in hits) / len(ranks), delta=1e-9)
        self.assertAlmostEqual(later["hr@10"], sum(rank <= 10 for rank in hits) / len(ranks), delta=1e-9)
        protocol = found["protocol"]
        self.assertEqual((protocol["from"], protocol["cases"]), ("2017-10-01T04:40:00Z", 300))
        self.assertEqual(protocol["fallback"]["cases"], 300 - len(ranks))
        self.assertIn("prequential from 2017-10-01T04:40:00Z, 300 events of", text)
        for predictor in self.predictors(found).values():
            parts = [part["n"] for part in predictor["slices"].values()]
            self.assertEqual([sum(parts[i : i + 2]) for i in range(0, len(parts), 2)], [300] * 4)
        self.assert_curves(found)
        self.assert_blend(found, log, begin)
        self.assertIn("\nblend over the best baseline: HR@10 ", text)

    def predictors(self, found):
        return {"model": found["model"], "blend": found["blend"], **found["baselines"]}

    def assert_curves(self, found):
        """Hours and days sum up to the whole, for everyone."""
        self.assertEqual([point["begin"] for point in found["curves"]["day"]], ["2017-10-01T00:00:00Z"])
        self.assertEqual([point["n"] for point in found["curves"]["hour"]], [20, 60, 60, 60, 60, 40])
        for length in ("day", "hour"):
            for name, predictor in self.predictors(found).items():
                for metric in ("hr@10", "ndcg@10"):
                    total = sum(point["n"] * point[name][metric] for point in found["curves"][length])
                    self.assertAlmostEqual(total / 300, predictor[metric], delta=1e-9)

    def assert_blend(self, found, log, begin):
        """Every score counted anew from the clicks before."""
        histories, followed, ranks = {}, [], []  # followed: item, the user's item before it, time
        for number, entry in enumerate(log):
            history, now = histories.setdefault(entry["user_id"], []), entry["timestamp"]
            if number >= begin:
                scores, all_popular = {}, sum(2 ** ((at - now) / 300_000) for _, _, at in followed)
                for item, before, at in followed:
                    scores[item] = scores.get(item, 0) + 10 * 2 ** ((at - now) / 300_000) / all_popular
                    if history and before == history[-1][0]:
                        scores[item] += 2 ** ((history[-1][1] - now) / 300_000 + (at - now) / 1_800_000)
                left = {item: score for item, score in scores.items() if item not in dict(history)}
                target = left.get(entry["item_id"])
                ranks.append(None if target is None else sum(score >= target for score in left.values()))
            followed.append((entry["item_id"], history[-1][0] if history else None, now))
            history.append((entry["item_id"], now))
        blend, hits = found["blend"], [rank for rank in ranks if rank is not None]
        self.assertAlmostEqual(blend["mrr"], sum(1 / rank for rank in hits) / len(ranks), delta=1e-9)
        self.assertAlmostEqual(blend["hr@10"], sum(rank <= 10 for rank in hits) / len(ranks), delta=1e-9)
        for metric, over in blend["over_best"].items():
            best = max(found["baselines"].values(), key=lambda figures: figures[metric])[metric]
            self.assertEqual(found["baselines"][over["baseline"]][metric], best)
            self.assertAlmostEqual(over["ratio"], blend[metric] / best, delta=1e-9)
            self.assertTrue(over["interval"][0] <= over["ratio"] <= over["interval"][1])

    def test_blend_options(self):
        words = ("--protocol", "prequential")
        found, _ = self.evaluate(self.log, *words)
        other, _ = self.evaluate(self.log, *words, "--blend-popularity-weight", "0.5", "--blend-gap-minutes", "90")
        self.assertEqual((other["blend"]["popularity_weight"], other["blend"]["gap_minutes"]), (0.5, 90))
        self.assertNotEqual(found["blend"]["mrr"], other["blend"]["mrr"])
        self.assertEqual(found["baselines"], other["baselines"])

    def test_later_models(self):
        write_model(self.path("other"), ITEMS[:20], seed=SEED + 1)
        words = ("--protocol", "prequential")
        alone, _ = self.evaluate(self.log, *words, "--compare", self.path("other"))
        begin = self.log[0]["timestamp"]
        found, text = self.evaluate(self.log, *words, "--model-from", f"{begin}={self.path('other')}")
        later, compared = found["model"].pop("later"), alone["compare"]
        self.assertEqual(later, [{"from": "2017-10-01T03:00:00Z", "name": "other", "version": later[0]["version"]}])
        self.assertEqual(later[0]["version"], compared["model"]["version"])
        for key in ("hr@10", "ndcg@10", "mrr", "coverage@10", "novelty@10", "slices"):
            self.assertEqual(found["model"][key], compared["model"][key])
        self.assertEqual(found["protocol"]["unknown_targets"], compared["unknown_targets"])
        self.assertIn("later models take over: 1, from 2017-10-01T03:00:00Z", text)
        found, _ = self.evaluate(self.log, *words, "--model-from", f"2018-01-01={self.path('other')}")
        self.assertEqual(found["model"]["mrr"], alone["model"]["mrr"])

        # Later models keep keys and values as the first does.
        words += ("--set", "model.cache_precision=int8")
        alone, _ = self.evaluate(self.log, *words, "--compare", self.path("other"))
        found, _ = self.evaluate(self.log, *words, "--model-from", f"{begin}={self.path('other')}")
        self.assertEqual(found["model"]["mrr"], alone["compare"]["model"]["mrr"])
        self.assertNotEqual(found["model"]["mrr"], compared["model"]["mrr"])

    def test_a_later_model_of_fewer_items(self):
        """Lists as each of both models gives them in `replay`: to its time, and from then on."""
        later = ITEMS[-5:]
        write_model(self.path("other"), later, seed=SEED + 1)
        begin = self.log[len(self.log) // 2]["timestamp"]
        words = ("--protocol", "prequential", "--model-from", f"{begin}={self.path('other')}")
        found, _ = self.evaluate(self.log, *words)
        answers = []
        for model in ("model", "other"):
            settings = {"recommend__top_k": len(ITEMS), "model__directory": self.path(model)}
            self.replay(self.path("events.jsonl"), output=f"{model}.jsonl", state=f"{model}-state", **settings)
            records = read_output(self.path(f"{model}.jsonl"))
            answers.append({(record["user_id"], record["sequence_number"]): record["items"] for record in records})
        counts, lengths, tops, bits = dict.fromkeys(ITEMS, 0), {}, [], []
        for number, entry in enumerate(self.log):
            length, by = lengths.get(entry["user_id"], 0), int(entry["timestamp"] >= begin)
            if length > 0:
                tops.append([item["item_id"] for item in answers[by][entry["user_id"], length]])
                candidates = (len(ITEMS), len(later))[by]
                bits.append([math.log2((number + candidates) / (counts[item] + 1)) for item in tops[-1]])
            counts[entry["item_id"]] = counts.get(entry["item_id"], 0) + 1
            lengths[entry["user_id"]] = length + 1
        self.assertGreater(len({item for top in tops for item in top[:10]} - set(later)), 0)
        for k in CUTOFFS:
            covered = {item for top in tops for item in top[:k]} & set(later)
            self.assertAlmostEqual(found["model"][f"coverage@{k}"], len(covered) / len(later), delta=1e-9)
            shown = [of_item for of_list in bits for of_item in of_list[:k]]
            self.assertAlmostEqual(found["model"][f"novelty@{k}"], sum(shown) / len(shown), delta=1e-9)

    def test_compare(self):
        write_model(self.path("other"), ITEMS[:20], seed=SEED + 1)
        for protocol in ("leave-one-out", "prequential"):
            alone, _ = self.evaluate(self.log, "--protocol", protocol)
            found, text = self.evaluate(self.log, "--protocol", protocol, "--compare", self.path("other"))
            compared = found.pop("compare")
            self.assertEqual({**found["model"], "intervals": None}, {**alone["model"], "intervals": None})
            self.assertEqual((compared["model"]["name"], compared["candidates"]), ("other", 20))
            for metric, difference in compared["differences"].items():
                expected = compared["model"][metric] - found["model"][metric]
                self.assertAlmostEqual(difference["difference"], expected, delta=1e-9)
                self.assertTrue(difference["interval"][0] <= expected <= difference["interval"][1])
                self.assertTrue(0 < difference["p"] <= 1)
                relative = expected / found["model"][metric]
                self.assertAlmostEqual(difference["relative"], relative, delta=1e-9)
                self.assertTrue(difference["relative_interval"][0] <= relative <= difference["relative_interval"][1])
            self.assertEqual(text.splitlines()[-1], compared["verdict"])
            names = [f"{name} ({figures['version'][:8]})" for name, figures in
                     (("other", compared["model"]), ("model", found["model"]))]  # fmt: skip
            heading, *metrics = text.splitlines()[-5:-1]
            self.assertEqual(heading, f"{names[0]} less {names[1]}:")
            for line, (name, difference) in zip(metrics, compared["differences"].items()):
                self.assertRegex(line, rf"^{name.upper()} +[+-]\d\.\d{{4}} \[.*\], [+-]\d+\.\d % \[.* %\], p = \d\.\d{{4}}$")
                self.assertTrue(line.split()[1] == f"{difference['difference']:+.4f}", line)
            for name in names:
                self.assertIn(name, compared["verdict"])
            found, text = self.evaluate(self.log, "--protocol", protocol, "--compare", self.path("model"))
            for difference in found["compare"]["differences"].values():
                same = {"difference": 0, "interval": [0, 0], "relative": 0, "relative_interval": [0, 0], "p": 1}
                self.assertEqual(difference, same)
            self.assertTrue(text.splitlines()[-1].startswith("no significant difference in NDCG@10"))

    def test_refusals(self):
        prequential = ("--protocol", "prequential")
        for log, arguments, message in (
            ([], (), "--input: no user has two events, which leave-one-out needs"),
            ([], prequential, "--input: no events to predict"),
            (self.log, (*prequential, "--from", "2018-01-01"),
             "--from 2018-01-01T00:00:00Z: after the newest event of --input, 2017-10-01T03:01:17Z"),
            (self.log, (*prequential, "--from", "noon"), '--from: "noon": expected an ISO 8601 time'),
            (self.log, ("--from", "2017-01-01"), "--from: only for --protocol prequential"),
            (self.log, ("--model-from", "2017-01-01=model"),
             "--model-from 2017-01-01=model: expected TIME=DIR, and --protocol prequential"),
            (self.log, (*prequential, "--model-from", "model"), "--model-from model: expected TIME=DIR"),
            (self.log, (*prequential, "--model-from", "2017-02-01=model", "--model-from", "2017-01-01=model"),
             "--model-from 2017-01-01=model: expected a time after the one before"),
            (self.log, (*prequential, "--model-from", "2017-01-01=model", "--model-from", "2017-01-01=model"),
             "--model-from 2017-01-01=model: expected a time after the one before"),
            (self.log, (*prequential, "--model-from", "2017-02-01=nowhere"), "nowhere: no such directory"),
        ):  # fmt: skip
            self.assert_error(self.evaluate(log, *arguments, expect=2), message)
        for arguments in (("--blend-gap-minutes", "0"), ("--popularity-hours", "0"), ("--popularity-hours", "many"), ("--seed", "x")):
            self.evaluate(self.log, *arguments, expect=2)
        missing = self.evaluate(self.log, "--compare", "nowhere", expect=2)
        self.assert_error(missing, "nowhere: no such directory")


if __name__ == "__main__":
    main()
