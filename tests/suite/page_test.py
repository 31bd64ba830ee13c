"""The page: well-formed, complete, without anything from outside, and equal to the JSON."""

import html.parser
import json
import math
import os
import random
import subprocess
import unittest

import suite_path
from compare_test import run_of
from run_fixture import RunFixture
from weir_bench import charts, histogram, page, pictures

VOID = {"meta", "br", "line", "circle", "rect", "polyline"}


class Reader(html.parser.HTMLParser):
    """Builds a list of elements, and fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.elements = [], []
        self.feed(text)
        self.close()
        if self.stack:
            raise ValueError(f"not closed: {self.stack}")

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append({"tag": tag, "in": list(self.stack), "text": "", **attributes})
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "in": list(self.stack), "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        if tag not in VOID and self.stack.pop() != tag:
            raise ValueError(f"</{tag}> closes another element")

    def handle_data(self, data):
        # What follows an element's end is not its text; only leaves are asked for theirs.
        if self.elements and self.stack and self.elements[-1]["tag"] == self.stack[-1]:
            self.elements[-1]["text"] += data

    def of(self, tag):
        return [element for element in self.elements if element["tag"] == tag]


class Charts(unittest.TestCase):
    def test_axes_map_their_ends_and_ticks_lie_within(self):
        """Linear and logarithmic, over narrow and wide ranges."""
        for low, high, log in ((0, 7, False), (0.9, 1.1, True), (10, 1e7, True), (5, 5, False)):
            axis = charts.Axis(low, high, 100, 500, log)
            self.assertLessEqual(axis.at(low), axis.at(high))
            self.assertTrue(2 <= len(axis.ticks()) <= 14, (low, high, axis.ticks()))
            for tick in axis.ticks():
                self.assertTrue(100 <= axis.at(tick) <= 500)
        axis = charts.Axis(1, 100, 0, 200, True)
        self.assertAlmostEqual(axis.at(10), 100)

    def test_a_forest_puts_ratios_where_they_belong(self):
        """1 lies under the line, a worse ratio right of it, and each can be focused."""
        entries = [(f"cell {ratio}", {"ratio": ratio, "low": ratio / 1.1, "high": ratio * 1.1,
                                      "margin": 0.02, "verdict": "SLOWER", "reason": "<p> & so"})
                   for ratio in (1.0, 2.0)]
        read = Reader(charts.forest("t & t", entries))
        one = next(e for e in read.of("line") if e["class"] == "one")
        dots = read.of("circle")
        self.assertEqual(dots[0]["cx"], one["x1"])
        self.assertGreater(float(dots[1]["cx"]), float(one["x1"]) + 20)
        self.assertEqual([e["text"][:14] for e in read.of("title") if e["in"][-1] == "g"],
                         ["cell 1.0: rati", "cell 2.0: rati"])

    def test_percentiles_stop_where_the_samples_do(self):
        """With ten thousand samples 99 % is the last level; merging adds counts."""
        one = {"buckets": [[value, 1] for value in range(1, 5001)]}
        two = {"buckets": [[value, 1] for value in range(5001, 10001)]}
        found = dict(histogram.percentiles(histogram.merge([one, two])))
        self.assertEqual(max(found), 0.99)
        self.assertEqual((found[0.5], found[0.99]), (5000, 9900))


class Pages(RunFixture):
    def check_page(self, path, tables):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        read = Reader(text)
        self.assertLess(len(text), 1 << 20)
        # Nothing is loaded: no link, image, style sheet or script from anywhere.
        self.assertFalse({"link", "img", "iframe", "object"} & {e["tag"] for e in read.elements})
        self.assertFalse([e for e in read.elements if "src" in e])
        for element in read.of("a"):
            self.assertTrue(element["href"].startswith("#"))
        self.assertNotIn("url(", text)
        ids = [e["id"] for e in read.elements if "id" in e]
        self.assertEqual(len(ids), len(set(ids)))
        data = json.loads(next(e["text"] for e in read.of("script")))
        self.assertEqual([run["table"] for run in data], tables)
        badges = [e["text"].strip() for e in read.of("span")
                  if e.get("class", "").startswith("badge")]
        expected = [v["verdict"] for rows in tables for row in rows
                    for v in sorted(row["verdicts"].values(), key=lambda v: v["verdict"])]
        self.assertEqual(sorted(badges[len(badges) - len(expected):]), sorted(expected))
        for element in read.of("svg"):
            self.assertTrue(element["aria-label"])
            self.assertEqual(element["in"][-2:], ["figure", "div"])
        for element in read.elements:
            for name in ("x", "y", "cx", "cy", "x1", "width", "height", "points"):
                self.assertNotIn("nan", element.get(name, ""))
        return read, text

    def test_a_page_of_a_run(self):
        """Every chart, the verdicts of the JSON, the environment, and the command that repeats."""
        report, _, _ = self.bench("--cells", "echo", "--blocks", "2", "--seed", "9", "--variant",
                                  "twin=--engine epoll --slow-us 100")
        path = os.path.join(self.folder, "run.html")
        subprocess.run([suite_path.LAUNCHER, "report", self.json, "--html", path], check=True)
        read, text = self.check_page(path, [report["table"]])
        captions = " ".join(e["text"] for e in read.of("figcaption"))
        wanted = ["machine/op: ratio", "ops/s: ratio", "CPU time per operation of the whole",
                  "order of trials"]
        # A level needs a hundred samples beyond it: a busy machine may have none.
        if min(trial["samples"] for trial in report["trials"]) > 1000:
            wanted.append("Latency by percentile, echo")
        for word in wanted:
            self.assertIn(word, captions)
        self.assertEqual(len(read.of("svg")), len(read.of("figure")))
        self.assertIn("--seed 9", next(e["text"] for e in read.of("code")))
        self.assertIn("prefers-color-scheme: dark", text)
        self.assertIn("@media print", text)
        self.assertIn("width=device-width", text)
        focusable = [e for e in read.of("g") if e.get("tabindex") == "0"]
        names = [e["text"] for e in read.of("title") if e["in"][-1] == "g"]
        self.assertGreater(len(focusable), 8)
        self.assertEqual(len(names), len(focusable))
        for name in names:
            self.assertRegex(name, r"\d")
        # The server's part of the bar is as wide as its number says.
        costs = pictures.parts_of(report["trials"][0])
        self.assertTrue(all(math.isfinite(part) and part >= 0 for part in costs))

    def test_two_runs_side_by_side(self):
        """Both tables, a comparison between them, and a page even where one has nothing."""
        report, _, _ = self.bench("--cells", "echo")
        path = os.path.join(self.folder, "two.html")
        subprocess.run([suite_path.LAUNCHER, "report", self.json, self.json, "--html", path],
                       check=True)
        read, text = self.check_page(path, [report["table"]] * 2)
        self.assertEqual([e["href"] for e in read.of("a")][:2], ["#r0", "#r1"])
        ids = {e["id"] for e in read.elements if "id" in e}
        self.assertLessEqual({e["href"][1:] for e in read.of("a")}, ids)
        self.assertIn("out.json against out.json", text)
        missing = subprocess.run([suite_path.LAUNCHER, "report", self.json, "--html",
                                  "/nonexistent/x.html"], capture_output=True, text=True,
                                 check=False)
        self.assertEqual((missing.returncode, "No such file" in missing.stderr), (2, True))

    def test_a_replay_says_what_is_over_what(self):
        """Each answer with its variant, and with its base, the run's or its own."""
        cells = [{"name": name, "expect": {"variant": "uring", "ratio": 2.0, "source": "s", **base}}
                 for name, base in (("a", {}), ("b", {"base": "one-shot"}))]
        report = {"base": "epoll", "table": [], "trials": [],
                  "scenario": {"cells": [{**cell, "title": ""} for cell in cells], "variants": []}}
        read = Reader(page.published(report))
        said = [element["text"] for element in read.of("td")]
        for cell, ratio in (("a", "uring over epoll"), ("b", "uring over one-shot")):
            self.assertIn(ratio, said, cell)

    def test_names_cannot_break_the_page(self):
        """A variant's name is text, whatever is in it."""
        run = run_of(100, 0.01, random.Random(1))
        run.update(command="x --variant '<b>'", seed=1, started="now", blocks_done=1,
                   complete=True, skipped={"c": "</script><i>"})
        run["environment"]["kernel"] = "</script><img src=x>"
        run["scenario"].update(name="</title><i>", blocks=1, variants=[{"name": "uring"}])
        for trial in run["trials"]:
            trial["metrics"]["ops_per_s"] = 10.0
        text = page.page([("</script>", run)])
        read = Reader(text)
        self.assertFalse(read.of("img") + read.of("i"))
        self.assertEqual(len(read.of("script")), 1)


if __name__ == "__main__":
    unittest.main()
