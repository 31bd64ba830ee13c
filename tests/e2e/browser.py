"""A headless Chromium that is driven over a pipe, with nothing but Python's own library."""

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

import programs

# Its own sandbox needs what test machines often forbid, and nothing foreign is loaded here.
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
           "--no-first-run", "--disable-background-networking", "--disable-component-update",
           "--disable-sync", "--disable-extensions", "--mute-audio", "--remote-debugging-pipe",
           "about:blank")


def find():
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page. What it says about itself (events) is kept until it is asked for."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="weir-browser-")
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        def place():
            """It reads commands from descriptor 3 and answers on 4."""
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (commands, answers)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)
            for fd in high:
                os.close(fd)
        self.process = subprocess.Popen(
            [find(), f"--user-data-dir={self.profile}", *OPTIONS], preexec_fn=place,
            close_fds=False, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        self.rest, self.events, self.count, self.session = b"", [], 0, None
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=target,
                                     flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def close(self):
        """Ends it and the processes that it started: they are a session of their own."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(programs.LIMIT)
        os.close(self.commands)
        os.close(self.answers)
        deadline = time.monotonic() + programs.LIMIT
        while os.path.exists(self.profile) and time.monotonic() < deadline:
            shutil.rmtree(self.profile, ignore_errors=True)  # its last process may still write

    def message(self):
        """The next thing that it says, within LIMIT seconds."""
        while b"\0" not in self.rest:
            if not select.select([self.answers], [], [], programs.LIMIT)[0]:
                raise AssertionError("the browser says nothing")
            more = os.read(self.answers, 1 << 20)
            if not more:
                raise AssertionError("the browser has ended")
            self.rest += more
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **params):
        """The result of a command of the DevTools protocol."""
        self.count += 1
        command = {"id": self.count, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while (message := self.message()).get("id") != self.count:
            self.events.append(message)
        if "error" in message:
            raise AssertionError(f"{method}: {message['error']['message']}")
        return message["result"]

    def open(self, url):
        """Loads the page up to its load event; earlier events are forgotten."""
        self.events = []
        said = self.call("Page.navigate", url=url)
        if "errorText" in said:
            raise AssertionError(f"{url}: {said['errorText']}")
        self.loaded()

    def reload(self):
        """The same for the page that is open, as by the key."""
        self.events = []
        self.call("Page.reload")
        self.loaded()

    def loaded(self):
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())

    def evaluate(self, expression):
        """The value of an expression in the page; promises are waited for."""
        said = self.call("Runtime.evaluate", expression=expression, awaitPromise=True,
                         returnByValue=True)
        if "exceptionDetails" in said:
            raise AssertionError(said["exceptionDetails"])
        return said["result"].get("value")

    def complaints(self):
        """What its console would show as warnings and errors."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Log.entryAdded" and \
                    params["entry"]["level"] in ("warning", "error"):
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif event.get("method") == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"]["text"])
            elif event.get("method") == "Runtime.consoleAPICalled" and \
                    params["type"] in ("warning", "error", "assert"):
                found.append(str(params["args"]))
        return found

    def statuses(self, part):
        """The statuses of all answers whose address contains the part, in their order."""
        return [event["params"]["response"]["status"] for event in self.events
                if event.get("method") == "Network.responseReceived"
                and part in event["params"]["response"]["url"]]
