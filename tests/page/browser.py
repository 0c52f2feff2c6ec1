#!/usr/bin/python3
"""browser -- a real Chromium without a window, driven through chromedriver by the WebDriver protocol.

    with Browser(folder) as browser:
        browser.open("http://127.0.0.1:9150/")
        browser.run("return document.title")

1. It asks nobody but the address it is told: no updates, no background networking, an empty profile in the test's folder.
2. It never outlives the test: chromedriver is stopped by its pid and takes the browser along.
"""
import base64
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

START_SECONDS_MAX = 30
REPLY_SECONDS_MAX = 60
WAIT_SECONDS_MAX = 30
PR_SET_PDEATHSIG = 1
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the name that the WebDriver standard gives to references

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server", "--hide-scrollbars",
         "--disable-features=Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider"]
KEYS = {"Tab": "\ue004", "Shift": "\ue008", "Enter": "\ue007", "Space": "\ue00d", "Escape": "\ue00c", "Left": "\ue012",
        "Right": "\ue014", "Down": "\ue015", "Home": "\ue011", "End": "\ue010"}

_libc = ctypes.CDLL(None)


class BrowserError(AssertionError):
    pass


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Browser:
    def __init__(self, folder, width=1280, height=900, flags=()):
        self.folder = folder
        self.downloads = os.path.join(folder, "downloads")
        self.profile = os.path.join(folder, "profile")
        os.makedirs(self.downloads, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with open(os.path.join(folder, "chromedriver.log"), "wb") as log:
            self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           preexec_fn=_die_with_parent)
        try:
            self._wait_for_driver()
            self._start(width, height, flags)
        except BaseException:
            self.driver.kill()
            self.driver.wait()
            raise

    def _wait_for_driver(self):
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until:
            try:
                if self._send("GET", "/status")["ready"]:
                    return
            except OSError:
                time.sleep(0.02)
        raise BrowserError("chromedriver did not start")

    def _start(self, width, height, flags):
        options = {"args": [*FLAGS, *flags, f"--window-size={width},{height}", f"--user-data-dir={self.profile}"],
                   "binary": shutil.which("chromium") or "/usr/bin/chromium"}
        found = self._send("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.session = "/session/" + found["sessionId"]
        self.devtools("Page.setDownloadBehavior", behavior="allow", downloadPath=self.downloads)

    def _send(self, method, path, body=None):
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=REPLY_SECONDS_MAX) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise BrowserError(json.load(error)["value"]["message"]) from None

    def ask(self, path, **body):
        return self._send("POST", self.session + path, body)

    def open(self, url):
        self.ask("/url", url=url)

    def run(self, script, *words):
        """The value that the script, a function's body, returns."""
        return self.ask("/execute/sync", script=script, args=list(words))

    def run_async(self, script, *words):
        """The value that the script's promise brings."""
        return self.ask("/execute/async", script=f"const done = arguments[arguments.length - 1]; (async () => {{ {script} }})()"
                        ".then(done, (error) => done(String(error)))", args=list(words))

    def wait(self, script, *words, what=None):
        """Waits until the script returns something true, and returns it."""
        until = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < until:
            found = self.run(script, *words)
            if found:
                return found
            time.sleep(0.05)
        raise BrowserError(f"did not come: {what or script}")

    def click(self, target):
        """A selector, or an element that a script returned."""
        found = target if isinstance(target, dict) else self.ask("/element", using="css selector", value=target)
        self.ask(f"/element/{found[ELEMENT]}/click")

    def type(self, element, text):
        """What a person would enter; the path of a file where one is to be chosen."""
        self.ask(f"/element/{element[ELEMENT]}/value", text=text)

    def press(self, *names):
        """Keys one after another; "Shift+Tab" holds the first."""
        actions = []
        for name in names:
            keys = [KEYS.get(part, part) for part in name.split("+")]
            actions += [{"type": "keyDown", "value": key} for key in keys]
            actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.ask("/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def devtools(self, command, **words):
        return self.ask("/goog/cdp/execute", cmd=command, params=words)

    def size(self, width, height, scale=1):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def scheme(self, name):
        """light or dark, as the person's system would have it."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path=None):
        png = base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"])
        if path:
            with open(path, "wb") as file:
                file.write(png)
        return png

    def console(self):
        """What the console said since it was last asked, but for the developer tools' own timings."""
        return [one for one in self.ask("/se/log", type="browser")
                if not (one["level"] == "DEBUG" and one["message"].startswith("devtools://"))]

    def close(self):
        try:
            self._send("DELETE", self.session)
        except (OSError, BrowserError):
            pass
        self.driver.terminate()
        self.driver.wait(START_SECONDS_MAX)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()
