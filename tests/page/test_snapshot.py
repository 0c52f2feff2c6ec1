#!/usr/bin/python3
"""A snapshot of a live ebbd's heap, opened by Chromium's own developer tools: what a person sees in their Memory panel."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from browser import Browser  # noqa: E402
from servers import Server, test_folder  # noqa: E402

PEERS, MORE_PEERS = 5, 20
ITEMS, ITEM_BYTES = 3000, 1000
# A request takes some of these itself, and a thread's stack may still remember a connection that has ended.
NOT_AT_REST = {"libevent", "watch", "scope", "conn"}
MAIN, RETAINERS = 0, 1  # the panel's tables

DEEP = """
const deep = (root, selector) => [...root.querySelectorAll(selector),
  ...[...root.querySelectorAll("*")].filter((node) => node.shadowRoot).flatMap((node) => deep(node.shadowRoot, selector))];
"""
FIND = DEEP + "return deep(document, arguments[0]).find((node) => new RegExp(arguments[1]).test(node.textContent.trim()))"
# Each cell's text, of a size without its percentage.
ROWS = DEEP + """
const grid = deep(document, ".data-grid").filter((one) => one.checkVisibility())[arguments[0]];
return [...(grid?.querySelectorAll("tr.data-grid-data-grid-node") ?? [])].map(
  (row) => [...row.cells].map((cell) => (cell.querySelector(".profile-multiple-values > span") ?? cell).textContent.trim()));
"""


def kilobytes(size):
    """As the panel writes it."""
    return f"{size / 1000:,.{1 if size < 100_000 else 0}f}\xa0kB"


class MemoryPanel:
    """The developer tools' front end in a tab of its own, at its Memory panel."""

    def __init__(self, browser):
        self.browser = browser
        browser.size(1280, 1400)  # rows that are out of sight are not in the document
        browser.open("devtools://devtools/bundled/devtools_app.html?panel=heap-profiler")

    def find(self, selector, pattern=""):
        """The first such element whose text matches, once it is there."""
        return self.browser.wait(FIND, selector, pattern, what=f"{selector} {pattern}")

    def click(self, selector, pattern):
        self.browser.click(self.find(selector, pattern))

    def rows(self, table=MAIN):
        return self.browser.wait(ROWS, table, what="rows")

    def load(self, path):
        name = os.path.basename(path).split(".")[0]
        self.browser.type(self.find("input[type=file]"), path)
        self.click("[role=treeitem]", rf"^{name}\([\d.]+\s[kMG]?B\)$")  # a size stands there once it is read
        self.rows()

    def view(self, name):
        self.click("select[title=Perspective] option", f"^{name}$")

    def open_row(self, pattern):
        """Chooses a row of the main table and shows what is below it."""
        self.click("td.object-column", pattern)
        self.browser.press("Right")

    def errors(self):
        """What the tools say of themselves, in the drawer that they open then and in the browser's own log."""
        return (self.browser.run(DEEP + "return deep(document, '.console-message-wrapper').map((node) => node.textContent)")
                + [line["message"] for line in self.browser.console() if line["level"] == "SEVERE"])


class Snapshot(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server.ebbd(flags=["-m", "64"], admin=True))
        cls.peers = [cls.server.connect() for _ in range(PEERS)]
        for peer in cls.peers:
            cls.addClassCleanup(peer.close)
        for number in range(ITEMS):
            cls.peers[number % PEERS].set(b"key%d" % number, b"v" * ITEM_BYTES)
        cls.browser = cls.enterClassContext(Browser(test_folder("snapshot")))
        cls.census = {row["type"]: row for row in json.loads(cls.server.page("/debug/heap?format=json&gc=1"))["types"]}
        cls.path = cls.take("first")

    @classmethod
    def take(cls, name):
        path = os.path.join(cls.browser.folder, f"{name}.heapsnapshot")
        with open(path, "w") as file:
            file.write(cls.server.page("/debug/heap.heapsnapshot"))
        return path

    def setUp(self):
        self.panel = MemoryPanel(self.browser)
        self.addCleanup(lambda: self.assertEqual(self.panel.errors(), []))
        self.panel.load(self.path)

    def test_classes_counts_and_sizes_are_those_of_the_census(self):
        classes = {}
        for name, _, size, *_ in self.panel.rows():
            name, _, count = name.partition("×")
            classes[name] = int(count.replace(",", "") or 1), size
        # One piece of the census' own answer, which a stack may still remember.
        self.assertLessEqual(classes.pop("http_body", (0, 0))[0], 1)
        self.assertEqual(set(classes), {name for name, row in self.census.items() if row["objects"]} | {"(collector's own)"})
        expected = {name: (row["objects"], kilobytes(row["cell_bytes"])) for name, row in self.census.items() if row["objects"]}
        for name in set(expected) - NOT_AT_REST:
            self.assertEqual((name, *classes[name]), (name, *expected[name]))
        conn = self.census["conn"]
        self.assertEqual(classes["conn"], (PEERS, kilobytes(PEERS * conn["cell_bytes"] / conn["objects"])))
        self.assertGreater(classes["segment"][0] * 128 * 1024, ITEMS * ITEM_BYTES)

    def test_a_segment_is_held_on_a_path_from_a_static_variable(self):
        self.panel.open_row(r"^segment×")
        self.panel.click("td.object-column", r"^segment\s*@\d+$")
        self.panel.find("td.object-column", r"^the_store\s*in\s*\(static variables\)")  # the path opens step by step
        path = " <- ".join(row[0].split("@")[0] for row in self.panel.rows(RETAINERS)[:3])
        self.assertRegex(path, r"^\[\d+\]\s*in\s*segment_roots <- \[\d+\]\s*in\s*store <- the_store\s*in\s*\(static variables\)$")

    def test_containment_names_what_is_open(self):
        self.panel.view("Containment")
        self.panel.open_row(r"\(resources\)")
        self.panel.find("td.object-column", rf"listener \d+ 127\.0\.0\.1:{self.server.port} \(listener\)")
        for peer in self.peers:
            self.panel.find("td.object-column", rf"socket \d+ 127\.0\.0\.1:{peer.sock.getsockname()[1]} \(connection\)")

    def test_two_snapshots_differ_by_what_was_made_between_them(self):
        for _ in range(MORE_PEERS):
            peer = self.server.connect()
            self.addCleanup(peer.close)
            self.assertEqual(peer.set(b"key1", b"v"), b"STORED")
        self.panel.load(self.take("second"))
        self.panel.view("Comparison")
        self.panel.find("th", "^# Delta$")
        changes = {name: told[:3] for name, *told in self.panel.rows()}
        self.assertEqual(changes["conn"], [str(MORE_PEERS), "0", f"+{MORE_PEERS}"])
        self.assertEqual(set(changes) & {"segment", "store", "server", "index_page", "worker"}, set(), changes)


if __name__ == "__main__":
    unittest.main()
