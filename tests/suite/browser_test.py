"""The page in a real browser: drawn, quick, complete, and usable by eye, keyboard and reader."""

import os
import re
import tempfile
import unittest

import report_fixture
import suite_path  # noqa: F401
from browser import Browser, find_chromium
from weir_bench import page
from weir_bench.table import HEADINGS

LOAD_SECONDS_MAX = 2
BYTES_MAX = 5 << 20
CONTRAST_MIN = 4.5   # WCAG 2, level AA
PAPER_WIDTH = 1032   # A4 landscape less its margins, in CSS pixels: 273 mm

# [[cell, variant, {heading: verdict}], ...] as a reader of the table sees it.
READ_TABLE = """
[...document.querySelectorAll('table.verdicts tbody')].flatMap(group => {
  const lines = [...group.rows];
  const heads = [...group.parentElement.tHead.rows[0].cells].map(cell => cell.innerText);
  return lines.slice(1).map(line => [
    lines[0].querySelector('b').innerText, line.cells[0].innerText,
    Object.fromEntries([...line.cells].flatMap((cell, at) => {
      const badge = cell.querySelector('.badge');
      return badge ? [[heads[at], badge.innerText]] : [];
    }))]);
})"""

# What sticks out of a chart, has no size, or is not painted.
BAD_MARKS = """
[...document.querySelectorAll('svg')].flatMap(chart => {
  const room = chart.viewBox.baseVal, title = chart.getAttribute('aria-label');
  const drawn = chart.getBoundingClientRect();
  const bad = drawn.width > 200 && drawn.height > 50 ? [] : [title + ': not drawn'];
  const shapes = [...chart.querySelectorAll('g circle, g rect, g line, polyline, text')];
  if (shapes.length < 4) bad.push(title + ': empty');
  for (const shape of shapes) {
    const box = shape.getBBox(), style = getComputedStyle(shape);
    if (box.x < -1 || box.x + box.width > room.width + 1 || box.y < -6 ||
        box.y + box.height > room.height + 6)
      bad.push(title + ': out of the picture: ' + shape.outerHTML);
    if (shape.tagName != 'text' && style.fill == 'none' && style.stroke == 'none')
      bad.push(title + ': no colour: ' + shape.outerHTML);
  }
  return bad;
})"""

# The smallest contrast of any text with the page, and whose it is.
CONTRAST = """
(() => {
  const bright = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(n => n / 255)
      .map(n => n <= 0.03928 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = bright(getComputedStyle(document.body).backgroundColor);
  let least = [99, ''];
  for (const one of document.querySelectorAll('p, li, a, th, td, small, span, figcaption, text')) {
    const style = getComputedStyle(one);
    const ink = bright(one.tagName == 'text' ? style.fill : style.color);
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < least[0]) least = [ratio, one.outerHTML.slice(0, 99)];
  }
  return [paper, ...least];
})()"""


@unittest.skipUnless(os.environ.get("WEIR_BROWSER"), "half a minute: WEIR_BROWSER=1 asks for it")
@unittest.skipUnless(find_chromium(), "chromium is not installed")
class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # A snap or container of a browser may see nothing of /tmp, but its own folder.
        cls.folder = tempfile.TemporaryDirectory(prefix="weir-page-", dir=suite_path.HERE)
        cls.report = report_fixture.report()
        cls.path = cls.write("run.html", [("run.json", cls.report)])
        cls.browser = Browser()
        cls.browser.__enter__()
        cls.browser.size(1200, 900)
        cls.browser.media()

    @classmethod
    def tearDownClass(cls):
        cls.browser.__exit__(None, None, None)
        cls.folder.cleanup()

    @classmethod
    def write(cls, name, reports):
        path = os.path.join(cls.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(page.page(reports))
        return path

    def setUp(self):
        self.browser.size(1200, 900)
        self.browser.media()
        self.browser.complaints.clear()
        self.browser.open(self.path)

    def test_nothing_is_loaded_and_nothing_complains(self):
        """One request, of the file itself; no error, no warning, no exception."""
        self.assertEqual(self.browser.requests(), ["file://" + self.path])
        self.assertEqual(self.browser.complaints, [])

    def test_a_complaint_would_be_seen(self):
        """The test before can fail."""
        self.browser.evaluate("console.error('so'), 1")
        self.assertIn("so", str(self.browser.complaints))

    def test_every_chart_is_drawn(self):
        """Each has a size, marks with colours, and all of them within its frame."""
        self.assertEqual(self.browser.evaluate(BAD_MARKS), [])
        captions = self.browser.evaluate(
            "[...document.querySelectorAll('figcaption')].map(one => one.innerText)")
        self.assertEqual(len(captions), self.browser.evaluate(
            "document.querySelectorAll('figure svg').length"))
        for expected in ("machine/op: ratio", "ops/s: ratio", "p99: ratio", "Ladder, echo-64-c1",
                         "Latency against throughput", "ops/s against size",
                         "CPU time per operation", "Latency by percentile", "order of trials"):
            self.assertTrue(any(expected in caption for caption in captions), expected)

    def test_the_verdict_table_is_that_of_the_json(self):
        """Row by row and column by column."""
        expected = [[row["cell"], row["variant"],
                     {HEADINGS[name]: found["verdict"] for name, found in row["verdicts"].items()}]
                    for row in self.report["table"]]
        self.assertEqual(self.browser.evaluate(READ_TABLE), expected)
        seen = {verdict for _, _, found in expected for verdict in found.values()}
        self.assertLessEqual({"FASTER", "SLOWER", "INVALID"}, seen)

    def test_light_and_dark_can_be_read(self):
        """All text has enough contrast on both papers, which differ."""
        papers = []
        for scheme in ("light", "dark"):
            self.browser.media(scheme=scheme)
            paper, contrast, whose = self.browser.evaluate(CONTRAST)
            self.assertGreater(contrast, CONTRAST_MIN, f"{scheme}: {whose}")
            papers.append(paper)
        self.assertGreater(papers[0], 0.9)
        self.assertLess(papers[1], 0.1)

    def test_the_keyboard_reaches_every_mark(self):
        """Tab goes from link to table to the marks of the first chart, one after the other."""
        self.browser.evaluate("document.querySelector('figure g').focus()")
        labels = []
        for _ in range(6):
            labels.append(self.browser.evaluate(
                "document.activeElement.querySelector('title').textContent"))
            self.browser.press("Tab", 9)
        self.assertEqual(len(set(labels)), 6)
        for label in labels:
            self.assertRegex(label, r"^echo-\d+-c1 .*: ratio [\d.]+, [A-Z]+: ")
        marks = self.browser.evaluate(
            "[...document.querySelectorAll('figure g')].every(one => one.tabIndex === 0)")
        self.assertTrue(marks)

    def test_a_screen_reader_has_a_name_for_everything(self):
        """Tables, pictures, marks, links and scrolling regions; header cells have their role."""
        nodes = self.browser.ask("Accessibility.getFullAXTree")["nodes"]
        counts = {}
        for node in nodes:
            role = node.get("role", {}).get("value")
            if node.get("ignored"):
                continue
            counts[role] = counts.get(role, 0) + 1
            if role in ("image", "img", "table", "region", "link", "heading", "navigation",
                        "columnheader", "rowheader"):
                self.assertTrue(node.get("name", {}).get("value", "").strip(), node)
        rows = len(self.report["table"])
        self.assertGreaterEqual(counts["rowheader"], rows)
        self.assertGreaterEqual(counts["columnheader"], 9)
        self.assertGreater(counts.get("image", 0) + counts.get("img", 0), rows)

    def test_a_phone_scrolls_only_downwards(self):
        """Wide tables and charts scroll in themselves, and letters keep their size."""
        self.browser.size(390, 844, phone=True)
        self.browser.open(self.path)
        self.assertLessEqual(self.browser.evaluate("document.documentElement.scrollWidth"), 390)
        self.assertEqual(self.browser.evaluate("innerWidth"), 390)
        self.assertGreater(self.browser.evaluate(
            "document.querySelector('svg text').getBoundingClientRect().height"), 9)

    def test_paper_takes_the_whole_table(self):
        """In print nothing is cut off at the right, and the colours are those of white paper."""
        self.browser.media("print", "dark")
        self.browser.size(PAPER_WIDTH, 700)
        widest = self.browser.evaluate("Math.max(...[...document.querySelectorAll("
                                       "'table, svg')].map(one => one.getBoundingClientRect()"
                                       ".right))")
        self.assertLessEqual(widest, PAPER_WIDTH)
        paper, contrast, whose = self.browser.evaluate(CONTRAST)
        self.assertEqual(paper, 1)
        self.assertGreater(contrast, CONTRAST_MIN, whose)
        pdf = self.browser.ask("Page.printToPDF", preferCSSPageSize=True)["data"]
        self.assertGreater(len(pdf), 10000)

    def test_a_full_matrix_is_small_and_quick(self):
        """60 cells of eight variants and ten blocks, with every histogram."""
        path = self.write("matrix.html", [("m.json", report_fixture.report(60, 10))])
        self.assertLess(os.path.getsize(path), BYTES_MAX)
        before = self.browser.busy_seconds()
        self.browser.open(path)
        busy = self.browser.busy_seconds() - before
        self.assertTrue(0 < busy < LOAD_SECONDS_MAX, busy)
        self.assertEqual(self.browser.complaints, [])

    def test_two_runs_stand_side_by_side(self):
        """Each has its table, and between them is what changed."""
        self.browser.open(self.write("two.html", [("a.json", self.report),
                                                  ("b.json", self.report)]))
        self.assertEqual(self.browser.evaluate("document.querySelectorAll('.verdicts').length"), 2)
        self.assertTrue(re.search("b.json against a.json",
                                  self.browser.evaluate("document.body.innerText")))
        self.assertEqual(self.browser.evaluate(BAD_MARKS), [])


if __name__ == "__main__":
    unittest.main()
