"""A headless Chromium, spoken to over its DevTools pipe: file descriptors 3 and 4, JSON, NUL."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

LIMIT = 30


def find_chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser") \
        or shutil.which("google-chrome")


class Browser:
    """Use in a `with`. `complaints` has what the page wrote to the console or threw."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-browser-")
        self.number, self.buffer, self.events, self.complaints = 0, b"", [], []
        mine_in, theirs_out = os.pipe()
        theirs_in, mine_out = os.pipe()

        def place_pipes():
            # Above 4 first: one of them may be 3 or 4 itself.
            high = [os.dup2(fd, 20 + at) for at, fd in enumerate((theirs_in, theirs_out))]
            for at, fd in enumerate(high):
                os.dup2(fd, 3 + at)

        self.process = subprocess.Popen(
            [find_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             f"--user-data-dir={self.folder.name}", "--remote-debugging-pipe", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=place_pipes, start_new_session=True)
        os.close(theirs_in)
        os.close(theirs_out)
        self.read_end, self.write_end = mine_in, mine_out
        self.session = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.ask(f"{domain}.enable")
        self.ask("Performance.enable", timeDomain="threadTicks")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for fd in (self.read_end, self.write_end):
            os.close(fd)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        # Its helpers are in its group; it may be gone already.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(LIMIT)
        self.folder.cleanup()

    def receive(self, deadline):
        while b"\0" not in self.buffer:
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self.read_end], [], [], left)
            data = os.read(self.read_end, 1 << 20) if ready else b""
            if not data:
                raise TimeoutError("the browser says nothing")
            self.buffer += data
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def keep_event(self, message):
        """Collects complaints; other events wait for wait_for()."""
        method, values = message["method"], message["params"]
        if method == "Runtime.exceptionThrown":
            self.complaints.append(values["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(values["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(values["entry"]["text"])
        self.events.append(message)

    def ask(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + LIMIT
        while (answer := self.receive(deadline)).get("id") != self.number:
            if "method" in answer:
                self.keep_event(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait_for(self, method):
        deadline = time.monotonic() + LIMIT
        while not any(event["method"] == method for event in self.events):
            message = self.receive(deadline)
            if "method" in message:
                self.keep_event(message)

    def open(self, path):
        """Loads the file and waits until all of it is there. Returns the seconds that took."""
        self.events = []
        start = time.monotonic()
        self.ask("Page.navigate", url="file://" + path)
        self.wait_for("Page.loadEventFired")
        # The first frame with everything in it, not only the document.
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
        return time.monotonic() - start

    def busy_seconds(self):
        """CPU time of the page's main thread, whatever else the machine does."""
        metrics = self.ask("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    def requests(self):
        return [event["params"]["request"]["url"] for event in self.events
                if event["method"] == "Network.requestWillBeSent"]

    def evaluate(self, expression):
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def size(self, width, height, phone=False):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=phone)

    def media(self, kind="screen", scheme="light"):
        self.ask("Emulation.setEmulatedMedia", media=kind,
                 features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path, whole=True):
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                     windowsVirtualKeyCode=code)
