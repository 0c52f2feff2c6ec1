#!/usr/bin/python3
"""The live page in a real Chromium, over a real ebbd under a small load."""
import glob
import json
import os
import re
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from browser import Browser  # noqa: E402
from servers import Server, npm_folder, test_folder  # noqa: E402

KEYS = 3000
CONTRAST_TEXT_MIN = 4.5  # WCAG 2.2 AA, 1.4.3
CONTRAST_LARGE_MIN = 3.0
CONTRAST_GRAPHICS_MIN = 3.0  # 1.4.11
LARGE_PIXELS, LARGE_BOLD_PIXELS = 24, 18.66
NARROW, WIDE = 360, 1280
AXE = "axe-core@4.14.1"
ALARM = ["--alarm", "connections_near_limit=0.001/1"]  # three of 1,024 connections raise it
CHARTS = ["memory", "requests", "hits", "latency", "pauses", "evictions", "connections"]

# Every text that is seen, its colour and what is behind it, as the browser computed them.
TEXTS = """
const out = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const back = (node) => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
for (let node; (node = walker.nextNode()); ) {
  const parent = node.parentElement, text = node.textContent.trim();
  if (!text || parent.closest("script, .unseen, noscript") || !parent.checkVisibility()) continue;
  const style = getComputedStyle(parent);
  out.push([text, parent.closest("svg") ? style.fill : style.color, back(parent), parseFloat(style.fontSize), Number(style.fontWeight)]);
}
return out;
"""
TONES = """
return [...document.querySelectorAll(".swatch")].map((node) => {
  const probe = document.createElement("span");
  probe.className = node.className;
  probe.classList.remove("swatch");
  document.body.append(probe);
  probe.style.color = "var(--tone)";
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return [node.className, colour, getComputedStyle(document.body).backgroundColor];
});
"""
EARLIER = """
const start = (selector) => parseFloat(document.querySelector(selector)?.getAttribute("d").slice(1));
return start("#memory path.line.resident") < start("#memory path.area.live");
"""
FIGURES = "return [...document.querySelectorAll('#figures dd.value')].map((node) => node.textContent).join('|')"


def luminance(colour):
    channels = [float(number) / 255 for number in re.findall(r"[\d.]+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


class Load(threading.Thread):
    """A few clients that look aside, until told to end."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.peers = [server.connect() for _ in range(3)]
        self.over = threading.Event()
        self.error = None

    def run(self):
        number = 0
        try:
            while not self.over.wait(0.002):
                key = b"key%d" % (number * 7919 % KEYS)
                peer = self.peers[number % len(self.peers)]
                if peer.get(key) is None:
                    peer.set(key, b"v" * 2000, ttl=number % 3)
                number += 1
        except Exception as error:  # told by the test, in its own thread
            self.error = error

    def end(self):
        self.over.set()
        self.join()
        for peer in self.peers:
            peer.close()
        if self.error:
            raise self.error


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server.ebbd(flags=["-m", "8", "-t", "2", *ALARM], admin=True))
        cls.load = Load(cls.server)
        cls.load.start()
        cls.addClassCleanup(cls.load.end)
        cls.browser = cls.enterClassContext(Browser(test_folder("page"), WIDE, 900))
        cls.url = f"http://127.0.0.1:{cls.server.admin_port}/"

    def setUp(self):
        self.browser.size(WIDE, 900)
        self.browser.scheme("light")
        self.browser.open(self.url)
        self.browser.wait("return document.querySelectorAll('figure path.line').length >= 3", what="lines in the charts")
        self.browser.wait("return document.querySelectorAll('#tables section:not([hidden])').length >= 2", what="tables")

    def tearDown(self):
        self.assertEqual(self.browser.console(), [])

    def test_figures_and_charts_change_without_a_reload(self):
        self.browser.run("window.sameDocument = true")
        path = "document.querySelector('#requests path.line')?.getAttribute('d')"
        seen, drawn = self.browser.run(FIGURES), self.browser.wait(f"return {path}")
        self.browser.wait(FIGURES.replace("return ", "return arguments[0] !== "), seen, what="other figures")
        self.browser.wait(f"return {path} !== arguments[0]", drawn, what="another drawing")
        self.assertTrue(self.browser.run("return window.sameDocument"))
        found = self.browser.run("return [...document.querySelectorAll('#charts figure')].map((node) => node.id)")
        self.assertEqual(found, CHARTS)

    def test_a_raised_alarm_is_told_at_the_top_and_in_the_table(self):
        self.browser.wait("return document.querySelector('#health').textContent.includes('allowed connections are open')", what="word of the alarm")
        self.assertIn("degraded", self.browser.run("return document.querySelector('#health').textContent"))
        self.browser.wait("return document.querySelector('#alarms tr.loud')?.textContent.startsWith('connections_near_limitraised')", what="the alarm's row")
        for width in (NARROW, WIDE):
            self.browser.size(width, 900)
            self.browser.wait("return innerWidth === arguments[0]", width)
            self.assertTrue(self.browser.run("const at = document.querySelector('#alarms .scroll'); return at.scrollWidth <= at.clientWidth"), width)
        self.assertRegex(self.browser.run("return document.querySelector('#alarms summary').textContent"), r"^\d+ conditions are watched and quiet")

    def test_a_page_that_rests_does_not_call_its_end_now(self):
        ends = "[...document.querySelectorAll('#charts text[text-anchor=end].tick')].map((node) => node.textContent)"
        self.assertEqual(set(self.browser.run(f"return {ends}")), {"now"})
        self.browser.click("#pause")
        self.assertRegex("|".join(set(self.browser.run(f"return {ends}"))), r"^\d+:\d\d:\d\d( [AP]M)?$")
        self.browser.click("#pause")
        self.assertEqual(set(self.browser.run(f"return {ends}")), {"now"})

    def test_the_memory_chart_adds_up_to_what_the_daemon_tells(self):
        layers = self.browser.run("return document.querySelectorAll('#memory path.area').length")
        self.assertEqual(layers, 8)
        self.assertIn("limit for items 8\u202fMiB", self.browser.run("return document.querySelector('#memory .limit-name').textContent"))

    def test_the_time_before_the_page_was_opened_is_shown(self):
        self.browser.wait(EARLIER, what="resident memory from the heap trace")

    def test_numbers_are_told_in_three_digits_and_a_unit(self):
        wanted = {"count": [(0, "0"), (7.5, "7.50"), (9999, "9,999"), (10000, "10 k"), (156403, "156 k"), (2.5e6, "2.50 M")],
                  "bytes": [(0, "0 B"), (1023, "1,023 B"), (1536, "1.50 KiB"), (256 * 2**20, "256 MiB"), (3 * 2**30, "3 GiB")],
                  "seconds": [(0, "0 s"), (2e-9, "2 ns"), (3.59e-6, "3.59 µs"), (0.0123, "12.3 ms"), (1.5, "1.50 s")],
                  "percent": [(0, "0 %"), (0.4389, "43.9 %"), (1, "100 %")],
                  "duration": [(0, "0 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h")]}
        for name, pairs in wanted.items():
            script = "return import('/units.js').then((units) => arguments[1].map(units[arguments[0]]))"
            told = self.browser.run(script, name, [value for value, _ in pairs])
            self.assertEqual([text.replace("\u202f", " ") for text in told], [text for _, text in pairs], name)

    def test_the_button_collects(self):
        name = 'ebb_gc_collections_total{cause="demand"}'
        before = self.server.metrics()[name]
        self.browser.click("#collect")
        self.browser.wait("return document.querySelector('#said').textContent.startsWith('Collected in')", what="what it brought")
        self.assertEqual(self.server.metrics()[name], before + 1)

    def test_the_buttons_for_files_bring_files(self):
        pages = {page["path"] for page in json.loads(self.server.page("/debug?format=json"))["pages"]}
        for button, path, ending, member in (("#snapshot", "/debug/heap.heapsnapshot", "*.heapsnapshot", "snapshot"),
                                             ("#trace", "/debug/trace", "*.trace.json", "traceEvents")):
            shown = self.browser.run("return document.querySelector(arguments[0]).checkVisibility()", button)
            self.assertEqual(shown, path in pages, button)
            if not shown:
                continue
            self.browser.click(button)
            self.browser.wait("return / of \\d/.test(document.querySelector('#said').textContent)", what="word of the file")
            found = self.wait_for_file(ending)
            with open(found) as file:
                self.assertIn(member, json.load(file))
            self.browser.wait("return !document.querySelector(arguments[0]).hasAttribute('aria-disabled')", button)

    def wait_for_file(self, ending):
        for _ in range(600):
            found = glob.glob(os.path.join(self.browser.downloads, ending))
            if found:
                return found[0]
            self.browser.run("return new Promise((done) => setTimeout(done, 50))")
        self.fail(f"no {ending} came")

    def test_the_keyboard_reaches_everything_in_order(self):
        order = []
        for _ in range(40):
            self.browser.press("Tab")
            order.append(self.browser.run(
                "const at = document.activeElement; return at.closest('figure')?.id && at.classList.contains('plot') ? at.closest('figure').id"
                " : at.id || at.name || at.className || at.tagName"))
            if order[-1] == CHARTS[-1]:
                break
        wanted = ["skip", "collect", "span", "pause", *CHARTS]
        self.assertEqual([name for name in order if name in wanted], wanted)
        self.assertTrue(self.browser.run("return document.activeElement.matches(':focus-visible')"))

    def test_the_arrow_keys_read_earlier_values_aloud(self):
        self.browser.wait("return document.querySelectorAll('#requests path.line').length > 0")
        self.browser.run("document.querySelector('#requests .plot').focus()")
        self.browser.press("Left")
        first = self.browser.wait("return document.querySelector('#cursor').textContent")
        self.assertRegex(first, r"^Requests: reading .*/s, writing .*/s")
        self.assertEqual(self.browser.run("return document.querySelectorAll('line.cursor').length"), len(CHARTS))
        self.browser.press("Escape")
        self.assertEqual(self.browser.run("return document.querySelector('#cursor').textContent"), "")

    def test_everything_has_a_name_for_screen_readers(self):
        nodes = self.browser.devtools("Accessibility.getFullAXTree")["nodes"]
        named = {}
        for node in nodes:
            if not node.get("ignored"):
                named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        for role in ("button", "link", "radio", "image", "region", "heading"):
            self.assertTrue(named.get(role), role)
            self.assertNotIn("", named[role], role)
        groups = self.browser.run("return [...document.querySelectorAll('[role=group]')].map((node) => node.ariaLabel)")
        self.assertNotIn(None, groups)
        for landmark in ("banner", "main", "contentinfo"):
            self.assertEqual(len(named.get(landmark, [])), 1, landmark)
        levels = [int(name[1]) for name in self.browser.run("return [...document.querySelectorAll('h1, h2, h3')].map((node) => node.tagName)")]
        self.assertTrue(all(after <= before + 1 for before, after in zip(levels, levels[1:])), levels)

    def test_axe_finds_no_fault(self):
        with open(os.path.join(npm_folder(AXE), "node_modules/axe-core/axe.min.js")) as file:
            self.browser.run(file.read() + "; window.axe = axe;")
        self.browser.wait("return document.querySelectorAll('#alarms tr.loud').length > 0", what="a table of alarms that are raised")
        for scheme in ("light", "dark"):
            self.browser.scheme(scheme)
            for width in (NARROW, WIDE):
                self.browser.size(width, 900)
                self.browser.wait("return !document.getAnimations().some((animation) => animation.playState === 'running')")
                found = self.browser.run_async("""
                    const { passes, violations } = await axe.run();
                    return [passes.length, violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.target)}`)];""")
                self.assertGreater(found[0], 20)
                self.assertEqual(found[1], [], f"{scheme}, {width}")

    def test_a_chart_can_be_read_as_a_table(self):
        self.browser.click("#latency summary")
        self.browser.wait("return document.querySelectorAll('#latency tr').length > 1", what="rows")
        self.assertEqual(self.browser.run("return document.querySelector('#latency tr').textContent"), "agop50p99p99.9")

    def test_contrast_is_enough_in_light_and_dark(self):
        self.browser.click("#pause")  # a pressed button has colours of its own
        for scheme in ("light", "dark"):
            self.browser.scheme(scheme)
            self.browser.wait("return !document.getAnimations().some((animation) => animation.playState === 'running')")
            texts = self.browser.run(TEXTS)
            self.assertGreater(len(texts), 60)
            for text, colour, behind, pixels, weight in texts:
                large = pixels >= LARGE_PIXELS or (pixels >= LARGE_BOLD_PIXELS and weight >= 700)
                self.assertGreaterEqual(contrast(colour, behind), CONTRAST_LARGE_MIN if large else CONTRAST_TEXT_MIN,
                                        f"{scheme}: {text!r}: {colour} on {behind}")
            tones = self.browser.run(TONES)
            self.assertGreater(len(tones), 15)
            for name, colour, behind in tones:
                self.assertGreaterEqual(contrast(colour, behind), CONTRAST_GRAPHICS_MIN, f"{scheme}: {name}: {colour} on {behind}")

    def test_light_and_dark_follow_the_system(self):
        pictures = {}
        for scheme in ("light", "dark"):
            self.browser.scheme(scheme)
            pictures[scheme] = luminance(self.browser.run("return getComputedStyle(document.body).backgroundColor"))
            self.browser.picture(os.path.join(self.browser.folder, f"{scheme}.png"))
        self.assertGreater(pictures["light"], 0.8)
        self.assertLess(pictures["dark"], 0.05)

    def test_nothing_overflows_when_narrow_or_wide(self):
        for width in (320, NARROW, 768, WIDE, 2560):
            self.browser.size(width, 900)
            self.browser.wait("return innerWidth === arguments[0]", width)
            self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), width)
            columns = self.browser.run("return getComputedStyle(document.querySelector('#charts')).gridTemplateColumns.split(' ').length")
            self.assertEqual(columns == 1, width < 900, f"{columns} columns at {width}")

    def test_a_trace_opens_in_the_developer_tools(self):
        """The engine of their Performance panel reads it, and finds every slice in its place."""
        trace = self.server.page("/debug/trace?seconds=2")
        self.browser.open("devtools://devtools/bundled/devtools_app.html")
        found = self.browser.run_async("""
            const { TraceModel } = await import("./models/trace/trace.js");
            const model = TraceModel.Model.createWithAllHandlers();
            await model.parse(JSON.parse(arguments[0]).traceEvents, { metadata: {}, isFreshRecording: false });
            const parsed = model.parsedTrace(0), { Renderer } = parsed.data || parsed;
            return [...Renderer.processes.values()].flatMap((process) => [...process.threads.entries()].map(
              ([tid, thread]) => [tid, thread.name, thread.entries.length, thread.tree ? thread.tree.maxDepth : 0]));""", trace)
        self.browser.console()  # the tools' own words
        events, slices = json.loads(trace)["traceEvents"], {}
        for event in events:
            if event["ph"] == "X":
                slices[event["tid"]] = slices.get(event["tid"], 0) + 1
        names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
        self.assertEqual({tid: (name, count) for tid, name, count, _ in found if count > 0},
                         {tid: (names[tid], count) for tid, count in slices.items()})
        self.assertIn(2, [depth for _, name, _, depth in found if name.startswith("worker-")])  # a turn and its halves

    def test_no_other_host_is_asked_and_no_script_stands_in_the_page(self):
        asked = self.browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        self.assertTrue(asked)
        self.assertEqual([url for url in asked if not url.startswith(self.url)], [])
        with urllib.request.urlopen(self.url) as reply:
            policy, text = reply.headers["Content-Security-Policy"], reply.read().decode()
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotRegex(text, r"<style|<script(?![^>]*src=)| style=| on\w+=")


class Lives(unittest.TestCase):
    """One page over two lives of a daemon without load."""

    def test_figures_are_those_of_metrics_and_a_daemon_that_was_killed_is_seen_again(self):
        health = "document.querySelector('#health').textContent"
        server = Server.ebbd(admin=True)
        self.addCleanup(server.kill)
        with Browser(test_folder("lives"), WIDE, 900) as browser:
            peer = server.connect()
            for number in range(1500):
                peer.set(b"key%d" % number, b"v" * 1000)
            peer.get(b"key1"), peer.get(b"absent")
            metrics = server.metrics()
            browser.open(f"http://127.0.0.1:{server.admin_port}/")
            browser.wait(f"return {health}.includes('healthy')", what="health")
            wanted = browser.run_async("""
                const units = await import("/units.js"), [items, bytes, limit, connections, requests] = arguments[0];
                return [`${units.percent(bytes / limit)} of ${units.bytes(limit)} · ${units.count(items)} items`, units.whole(connections),
                        `${units.count(requests)} since start`, `${units.percent(0.5)} since start`];""",
                [metrics["memcached_current_items"], metrics["memcached_current_bytes"], metrics["memcached_limit_bytes"],
                 metrics["memcached_current_connections"],
                 sum(value for name, value in metrics.items() if name.startswith("ebb_requests_total"))])
            shown = browser.run(FIGURES.replace("dd.value", "dd")).split("|")
            self.assertLessEqual(set(wanted), set(shown))
            peer.close()
            server.kill()
            browser.wait(f"return {health}.includes('no answer since')", what="word of its end")
            self.assertNotIn("now", browser.run("return [...document.querySelectorAll('#charts text.tick')].map((node) => node.textContent)"))
            lost = [line["message"] for line in browser.console() if "ERR_CONNECTION_REFUSED" not in line["message"] and "ERR_EMPTY" not in line["message"]]
            self.assertEqual(lost, [])
            browser.devtools("Network.enable")
            browser.devtools("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
            with Server.ebbd(flags=["--admin", f"127.0.0.1:{server.admin_port}"]) as again:
                again.admin_port = server.admin_port
                while len(json.loads(again.page("/debug/heap-trace?format=json"))["rows"]) < 4:  # seconds that the page does not see
                    time.sleep(0.1)
                browser.devtools("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
                browser.wait("return document.querySelector('#about').textContent.includes(`process ${arguments[0]} `)", again.pid)
                browser.wait(f"return {health}.includes('healthy')", what="health")
                browser.wait("return document.querySelectorAll('#requests path.line').length > 0", what="a line of the new life")
                browser.wait(EARLIER, what="the new life's heap trace")


class Leaking(unittest.TestCase):
    """A page over a daemon that loses an object at each connection."""

    def test_a_leak_is_named_and_everything_that_is_wrong_is_in_one_line(self):
        server = Server.planted("leak", flags=ALARM, admin=True)
        self.addCleanup(server.kill)
        with Browser(test_folder("leaking"), WIDE, 900) as browser:
            peers = [server.connect() for _ in range(5)]
            for peer in peers:
                peer.ask(b"version")
            browser.open(f"http://127.0.0.1:{server.admin_port}/")
            browser.wait("return !document.querySelector('#collect').hidden")
            browser.click("#collect")
            browser.wait("return /leaks found.*connections near limit/.test(document.querySelector('#health').textContent)", what="both alarms")
            browser.wait("return document.querySelectorAll('#leaks tr.loud').length > 0", what="the leaks")
            for width in (NARROW, WIDE):
                browser.size(width, 900)
                browser.wait("return innerWidth === arguments[0]", width)
                row = browser.run("return document.querySelector('#leaks tr.loud').innerText")
                self.assertRegex(row, r"(?s)^conn\b.*accept4 \(plant\.c:\d+\)")
                self.assertTrue(browser.run("const at = document.querySelector('#leaks .scroll'); return at.scrollWidth <= at.clientWidth"), width)
            self.assertEqual(browser.console(), [])
            for peer in peers:
                peer.close()


class Strangers(unittest.TestCase):
    """The rules of src/ebb/daemon/guard.c at a running daemon."""

    def status(self, server, path, headers=None, post=False):
        request = urllib.request.Request(f"http://127.0.0.1:{server.admin_port}{path}", b"" if post else None, headers or {})
        try:
            with urllib.request.urlopen(request) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def test_pages_of_strangers_are_refused(self):
        with Server.ebbd(admin=True) as server:
            own = f"http://127.0.0.1:{server.admin_port}"
            self.assertEqual(self.status(server, "/debug/collect", post=True), 200)
            self.assertEqual(self.status(server, "/debug/collect", {"Origin": own}, post=True), 200)
            self.assertEqual(self.status(server, "/debug/collect"), 405)
            self.assertEqual(self.status(server, "/debug/collect", {"Origin": "http://evil.example"}, post=True), 403)
            self.assertEqual(self.status(server, "/debug/collect", {"Host": "evil.example"}, post=True), 403)
            self.assertEqual(self.status(server, "/debug/status", {"Host": f"evil.example:{server.admin_port}"}), 403)
            self.assertEqual(self.status(server, "/metrics", {"Host": "localhost"}), 200)
            self.assertEqual(self.status(server, "/debug/status", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}), 403)


if __name__ == "__main__":
    unittest.main(verbosity=2)
