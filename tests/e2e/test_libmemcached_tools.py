#!/usr/bin/python3
"""libmemcached's tools against the real daemon: memccp, memccat, memcexist, memcrm, memctouch, memcstat, memcping,
memcflush, memcdump, memcslap, memcaslap, memccapable."""
import os
import re
import subprocess
import unittest

from servers import Server, scaled

TOOL_SECONDS_MAX = 120
MEMCCAPABLE_ASCII_CASES = 27
MEMCCAPABLE_BINARY_CASES = 27


class Tools(unittest.TestCase):
    def setUp(self):
        self.server = Server.ebbd(flags=["-m", "128"])
        self.addCleanup(self.server.kill)
        self.peer = self.server.connect()

    def tearDown(self):
        self.peer.close()
        self.server.stop()

    def run_tool(self, name, *words, status=0, servers=True):
        where = [f"--servers=127.0.0.1:{self.server.port}"] if servers else []
        done = subprocess.run([name, *where, *words], capture_output=True, timeout=TOOL_SECONDS_MAX, cwd=self.server.folder)
        said = done.stdout + done.stderr
        if status is not None:
            self.assertEqual(done.returncode, status, f"{name} said {said!r}")
        return said

    def file(self, name, data):
        path = os.path.join(self.server.folder, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def test_memccp_stores_and_memccat_shows(self):
        self.run_tool("memccp", self.file("poem", b"roses are red\n"))
        self.assertIn(b"roses are red", self.run_tool("memccat", "poem"))

    def test_memcexist_tells_present_from_absent(self):
        self.peer.set(b"here", b"1")
        self.run_tool("memcexist", "here")
        self.run_tool("memcexist", "absent", status=1)

    def test_memcrm_removes(self):
        self.peer.set(b"a", b"1")
        self.run_tool("memcrm", "a")
        self.assertIsNone(self.peer.get(b"a"))

    def test_memctouch_finds_the_item(self):
        self.peer.set(b"a", b"1")
        self.run_tool("memctouch", "--expire=100", "a")

    def test_memcping_gets_an_answer(self):
        self.run_tool("memcping")

    def test_memcflush_empties(self):
        self.peer.set(b"a", b"1")
        self.run_tool("memcflush")
        self.assertIsNone(self.peer.get(b"a"))

    def test_memcstat_reads_every_statistic(self):
        said = self.run_tool("memcstat")
        self.assertIn(b"curr_items", said)
        self.assertIn(b"pid: %d" % self.server.pid, said)

    def test_memcstat_reads_one_group_and_the_analysis(self):
        self.peer.set(b"a", b"1")
        self.assertIn(b"items:1:number: 1", self.run_tool("memcstat", "--args=items"))
        self.assertIn(b"Average Item Size", self.run_tool("memcstat", "--analyze"))

    def test_memcdump_lists_every_key(self):
        keys = [b"key-%d" % i for i in range(100)]
        for key in keys:
            self.peer.set(key, b"1")
        self.assertEqual(sorted(self.run_tool("memcdump").split()), sorted(keys))

    def test_memcaslap_finds_what_it_stored(self):
        for words in ((), ("--binary",), ("--division=10",), ("--binary", "--division=10")):
            said = self.run_tool("memcaslap", "--threads=2", "--concurrency=8", f"--execute_number={scaled(5000, 500)}",
                                 "--verify=1", *words).decode()
            self.assertRegex(said, r"get_misses: 0\n", words)
            self.assertRegex(said, r"verify_failed: 0\n", words)

    def test_memcslap_stores_and_reads_under_load(self):
        count = scaled(5000, 500)
        self.run_tool("memcslap", "--concurrency=4", f"--execute-number={count}", "--test=set")
        self.run_tool("memcslap", "--concurrency=4", f"--execute-number={count}", "--test=get",
                      f"--initial-load={count}")
        self.assertGreaterEqual(int(self.peer.stats()["cmd_set"]), 4 * count)

    def test_every_ascii_case_of_memccapable_passes(self):
        said = self.run_tool("memccapable", "-h", "127.0.0.1", "-p", str(self.server.port), "-a", "-v", status=None,
                             servers=False)
        self.assertNotIn(b"FAIL", said, said.decode())
        self.assertEqual(len(re.findall(rb"\[pass\]", said)), MEMCCAPABLE_ASCII_CASES, said.decode())

    def test_every_binary_case_of_memccapable_passes(self):
        said = self.run_tool("memccapable", "-h", "127.0.0.1", "-p", str(self.server.port), "-b", "-v", status=None,
                             servers=False)
        self.assertNotIn(b"FAIL", said, said.decode())
        self.assertEqual(len(re.findall(rb"\[pass\]", said)), MEMCCAPABLE_BINARY_CASES, said.decode())


if __name__ == "__main__":
    unittest.main()
