"""A browser loads a page from `weir http`: script, style, picture, sound in ranges, a listing."""

import json
import struct
import unittest
import zlib

import browser
import http_programs

SECONDS, RATE = 400, 8000


def picture(width, height):
    """A PNG of one colour."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + \
            struct.pack(">I", zlib.crc32(kind + data))
    rows = (b"\0" + b"\x20\x80\xc0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def sound():
    """A WAV that is longer than what a browser reads in advance."""
    data = bytes(range(256)) * (SECONDS * RATE * 2 // 256)
    return (b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE * 2, 2, 16)
            + b"data" + struct.pack("<I", len(data)) + data)


PAGE = b"""<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>weir</title>
<link rel="stylesheet" href="style.css">
<script src="page.js"></script></head>
<body><p id="text">text</p><img id="picture" src="picture.png" alt="">
<audio id="sound" src="sound.wav" preload="metadata"></audio>
<iframe id="listing" src="list/"></iframe></body></html>
"""

SCRIPT = b"""
const event = (target, name) => new Promise((resolve, reject) => {
  target.addEventListener(name, resolve, { once: true });
  target.addEventListener('error', () => reject(new Error(name)), { once: true });
});
const load = event(window, 'load');
async function look() {
  await load;
  const sound = document.getElementById('sound'), picture = document.getElementById('picture');
  if (sound.readyState < 1) await event(sound, 'loadedmetadata');
  sound.currentTime = 350; // far behind what was read: another range
  await event(sound, 'seeked');
  const links = document.getElementById('listing').contentDocument.querySelectorAll('a');
  const fetched = await Promise.all(Array.from({ length: 40 },
    (_, i) => fetch('part.json?' + i).then(answer => answer.json())));
  return {
    color: getComputedStyle(document.getElementById('text')).color,
    picture: [picture.naturalWidth, picture.naturalHeight],
    duration: sound.duration,
    names: [...links].map(link => link.textContent),
    fetched: fetched.filter(part => part.value === 7).length,
  };
}
const result = look();
"""


@unittest.skipUnless(browser.find(), "chromium is not installed")
class Page(http_programs.HttpTest):
    """As a user would see it."""

    files = {
        "index.html": PAGE,
        "page.js": SCRIPT,
        "style.css": b"#text { color: rgb(1, 2, 3) }\n",
        "picture.png": picture(30, 20),
        "sound.wav": sound(),
        "part.json": b'{"value": 7}\n',
        "favicon.ico": picture(16, 16),
        "list/<b>&amp;'\".txt": b"odd\n",
        "list/\u00e4 %41.html": b"<title>named</title>",
        "list/deep/x": b"x",
    }
    options = ("--listing",)

    def test_a_page_is_whole(self):
        """Everything that the page refers to arrives and works: style, script, picture, a sound in
        ranges, a listing, forty requests at once; the console shows no complaint. Loaded again,
        the page is whole as well, and 304 says for it what did not change. A listing is a page
        too, and its links lead on."""
        page = browser.Browser()
        self.addCleanup(page.close)
        def check(address):
            page.open(f"http://{address}/")
            self.check_result(page.evaluate("result"))
            self.assertEqual(page.complaints(), [])
            sounds = page.statuses("/sound.wav")
            self.assertGreaterEqual(len(sounds), 2)
            self.assertEqual(set(sounds), {206})
            before = json.loads(self.get(address, "/.status").body)
            page.reload()
            self.check_result(page.evaluate("result"))
            after = json.loads(self.get(address, "/.status").body)
            self.assertGreater(after["status_3xx"], before["status_3xx"])
            page.open(f"http://{address}/list/")
            self.assertEqual(page.evaluate("document.title"), "/list/")
            odd = page.evaluate("[...document.links].find(a => a.text.includes('41')).href")
            page.open(odd)
            self.assertEqual(page.evaluate("document.title"), "named")
            self.assertEqual(page.complaints(), [])
        self.on_each_engine(check)

    def check_result(self, got):
        self.assertEqual(got["color"], "rgb(1, 2, 3)")
        self.assertEqual(got["picture"], [30, 20])
        self.assertEqual(got["duration"], SECONDS)
        self.assertEqual(got["fetched"], 40)
        self.assertEqual(got["names"], ["../", "deep/", "<b>&amp;'\".txt", "\u00e4 %41.html"])
