#!/usr/bin/python3
"""What memcached's tools ask for: dumps, watchers, the page of commands."""
import base64
import os
import resource
import struct
import unittest
import urllib.parse

from servers import EBBD, Server


class ToolsOfMemcached(unittest.TestCase):
    def setUp(self):
        self.server = Server(EBBD, flags=["-m", "64", "-c", "4096"])
        self.addCleanup(self.server.stop)
        self.peer = self.server.connect()
        self.addCleanup(self.peer.close)

    def lines(self, command, end):
        self.peer.send(command + b"\r\n")
        out = []
        while not out or out[-1] != end:
            out.append(self.peer.line().rstrip(b"\r\n"))
        return out[:-1]

    def dumped(self, command, end):
        """Of a dump, which begins with OK."""
        lines = self.lines(command, end)
        self.assertEqual(lines[0], b"OK")
        return lines[1:]

    def store(self, count):
        for start in range(0, count, 500):
            self.peer.send(b"".join(b"set key:%d 0 0 3 noreply\r\nabc\r\n" % i for i in range(start, min(start + 500, count))))
        self.peer.ask(b"mn")

    def test_metadump_lists_every_item_once(self):
        self.store(20000)
        self.peer.ask(b"delete key:7")
        keys = [line.split()[0] for line in self.dumped(b"lru_crawler metadump all", b"END")]
        self.assertEqual(sorted(keys), sorted(b"key=key%%3A%d" % i for i in range(20000) if i != 7))

    def test_metadump_tells_what_is_known_of_an_item(self):
        self.peer.ask(b"set a 5 0 1\r\nv")
        line, = self.dumped(b"lru_crawler metadump all", b"END")
        self.assertRegex(line, rb"\Akey=a exp=-1 la=\d+ cas=\d+ fetch=no cls=1 size=\d+ flags=5 \Z")
        self.assertEqual(self.dumped(b"lru_crawler metadump 2", b"END"), [])
        self.assertEqual(self.dumped(b"lru_crawler mgdump 2", b"EN"), [])
        self.assertEqual(self.peer.ask(b"lru_crawler crawl 2"), b"OK")

    def test_mgdump_can_be_sent_back(self):
        self.store(10)
        self.assertEqual(self.peer.ask(b"ms YQ== 1 b\r\nx"), b"HD")
        lines = self.dumped(b"lru_crawler mgdump all", b"EN")
        self.assertEqual(len(lines), 11)
        self.assertIn(b"mg YQ== b", lines)
        for line in lines:
            self.assertEqual(self.peer.ask(line), b"HD")

    def test_no_key_breaks_a_line(self):
        """In binary and base64 it may hold blanks and line feeds: nothing behind one may be read as an answer."""
        key, evil = b"a:b \r\nEND\r\nSTAT x 1\r\n", b"p \r\nEND:x"
        watcher, frame = self.server.connect(), self.server.connect()
        self.addCleanup(watcher.close)
        self.addCleanup(frame.close)
        self.assertEqual(watcher.ask(b"watch fetchers mutations deletions"), b"OK")
        self.assertEqual(self.peer.ask(b"stats detail on"), b"OK")
        for name in (key, evil):  # setq, then noop
            frame.send(struct.pack(">BBHBBHIIQ", 0x80, 0x11, len(name), 8, 0, 0, 9 + len(name), 0, 0) + bytes(8) + name + b"v" + b"\x80\x0a" + bytes(22))
            frame.read(24)
        coded = base64.b64encode(key)
        self.assertEqual(self.peer.ask(b"mg %s b k" % coded), b"HD k%s b" % coded)
        self.assertTrue(self.peer.ask(b"me %s b" % coded).startswith(b"ME %s exp=-1 " % coded))
        self.assertEqual(sorted(self.dumped(b"lru_crawler mgdump all", b"EN")), sorted(b"mg %s b" % base64.b64encode(name) for name in (key, evil)))
        self.assertEqual(sorted(line.split()[0] for line in self.dumped(b"lru_crawler metadump all", b"END")),
                         sorted(b"key=" + urllib.parse.quote(name, safe="").encode() for name in (key, evil)))
        self.assertEqual(self.lines(b"stats cachedump 1 0", b"END"), [])
        self.assertEqual(sorted(self.lines(b"stats detail dump", b"END")),
                         [b"PREFIX a get 0 hit 0 set 1 del 0", b"PREFIX p%20%0D%0AEND get 0 hit 0 set 1 del 0"])
        self.assertEqual(self.peer.ask(b"md %s b" % coded), b"HD")
        self.assertEqual(self.peer.ask(b"stats detail off"), b"OK")
        line = b""
        while b"type=deleted" not in line:
            line = watcher.line()
            self.assertRegex(line, rb"^ts=\S+ gid=\d+ type=(item_get|item_store|deleted) key=[\w.~%-]+ .*\n\Z")

    def test_prefixes_beyond_the_table_are_not_counted(self):
        self.assertEqual(self.peer.ask(b"stats detail on"), b"OK")
        self.peer.send(b"".join(b"set p%d:x 0 0 1 noreply\r\nx\r\n" % i for i in range(1100)))
        self.assertEqual(len(self.lines(b"stats detail dump", b"END")), 1024)
        self.assertEqual(self.peer.ask(b"stats detail off"), b"OK")

    def test_cachedump_lists_every_item(self):
        self.store(30000)
        self.assertEqual(len(self.lines(b"stats cachedump 1 0", b"END")), 30000)
        self.assertEqual(len(self.lines(b"stats cachedump 1 7", b"END")), 7)

    def test_what_follows_a_dump_is_answered_after_it(self):
        self.store(5000)
        self.peer.send(b"lru_crawler metadump all\r\nversion\r\n")
        lines = [self.peer.line() for _ in range(5003)]
        self.assertEqual((lines[0], lines[5001]), (b"OK\r\n", b"END\r\n"))
        self.assertTrue(lines[5002].startswith(b"VERSION"))

    def test_sizes_count_every_item(self):
        self.store(3000)
        self.assertEqual(sum(int(line.split()[2]) for line in self.lines(b"stats sizes", b"END")), 3000)

    def test_conns_lists_all(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        others = [self.server.connect() for _ in range(2000)]  # more than one reply has room for
        for other in others:
            other.ask(b"mn")
        stats = self.peer.stats(b"conns")
        self.assertEqual(sum(value in ("conn_read", "conn_parse_cmd") for name, value in stats.items() if name.endswith(":state")), 2001)
        for other in others:
            other.close()

    def test_a_watcher_is_told_what_happens(self):
        watcher = self.server.connect()
        self.addCleanup(watcher.close)
        self.assertEqual(watcher.ask(b"watch fetchers mutations deletions connevents"), b"OK")
        other = self.server.connect()
        other.ask(b"set a%b 0 100 2\r\nhi")
        other.get(b"nothing")
        other.ask(b"delete a%b")
        port = other.sock.getsockname()[1]
        other.close()
        seen = []
        while len(seen) < 7:
            line = watcher.line().decode()
            if "type=conn_" not in line or f" rport={port} " in line:  # not the end of an earlier connection
                seen.append(line)
        for line, part in zip(seen, ("type=conn_new rip=127.0.0.1", "type=item_get key=a%25b status=not_found", "type=item_store key=a%25b status=stored cmd=set ttl=100",
                                     "type=item_get key=nothing status=not_found", "type=item_get key=a%25b status=found", "type=deleted key=a%25b cmd=delete clsid=1 size=2\n",
                                     "type=conn_close rip=127.0.0.1")):
            self.assertIn(part, line)
            self.assertRegex(line, r"^ts=\d+\.\d+ gid=\d+ type=")

    def test_a_watcher_that_is_behind_loses_lines_and_is_told(self):
        watcher = self.server.connect(receive_buffer=4096)
        self.addCleanup(watcher.close)
        self.assertEqual(watcher.ask(b"watch mutations"), b"OK")
        stored = 0
        while int(self.peer.stats()["log_watcher_skipped"]) == 0:
            self.store(20000)
            stored += 20000
            self.assertLess(stored, 2000000)
        told = 0
        while told == 0:
            line = watcher.line()
            told = int(line.split(b"=")[1]) if line.startswith(b"skipped=") else 0
        self.assertGreater(told, 0)

    def test_evictions_are_told(self):
        server = Server(EBBD, flags=["-m", "8"])
        self.addCleanup(server.stop)
        watcher, peer = server.connect(), server.connect()
        self.addCleanup(watcher.close)
        self.assertEqual(watcher.ask(b"watch evictions"), b"OK")
        peer.send(b"".join(b"set k%d 0 0 1000 noreply\r\n%s\r\n" % (i, b"x" * 1000) for i in range(12000)))
        line = watcher.line()
        if line.startswith(b"skipped="):  # they come in hundreds at once
            line = watcher.line()
        self.assertRegex(line.decode(), r"type=eviction key=k\d+ fetch=no ttl=-1 la=\d+ clsid=1 size=1000")
        peer.close()

    def test_automove_is_checked(self):
        for words, answer in ((b"window 3", b"OK"), (b"window 1800", b"OK"), (b"freeratio 0.01", b"OK"), (b"freeratio", b"ERROR"), (b"ratio 0.5", b"OK"),
                              (b"window 2", b"CLIENT_ERROR automove window too low or too high"), (b"window 1801", b"CLIENT_ERROR automove window too low or too high"),
                              (b"window", b"CLIENT_ERROR bad command line format"), (b"window x", b"CLIENT_ERROR bad command line format")):
            self.assertEqual(self.peer.ask(b"slabs automove " + words), answer, words)

    def test_shutdown_needs_its_flag(self):
        self.assertEqual(self.peer.ask(b"shutdown"), b"SERVER_ERROR: shutdown not enabled")
        server = Server(EBBD, flags=["-A"])
        peer = server.connect()
        self.assertEqual(peer.ask(b"shutdown now"), b"CLIENT_ERROR invalid shutdown mode")
        peer.send(b"shutdown graceful\r\n")
        self.assertTrue(peer.closed())
        peer.close()
        server.process.wait(20)
        server.check_end()

    def test_what_flags_refuse_is_refused(self):
        server = Server(EBBD, flags=["-F", "-X", "-W"])
        self.addCleanup(server.stop)
        peer = server.connect()
        self.addCleanup(peer.close)
        self.assertEqual(peer.ask(b"flush_all"), b"CLIENT_ERROR flush_all not allowed")
        self.assertEqual(peer.ask(b"stats cachedump 1 0"), b"CLIENT_ERROR stats cachedump not allowed")
        self.assertEqual(peer.ask(b"lru_crawler metadump all"), b"ERROR metadump not allowed")
        self.assertEqual(peer.ask(b"lru_crawler mgdump all"), b"ERROR key dump not allowed")
        for word in (b"on", b"off", b"dump", b"x"):
            self.assertEqual(peer.ask(b"stats detail " + word), b"CLIENT_ERROR stats detail not allowed")
        self.assertEqual(peer.ask(b"watch"), b"CLIENT_ERROR watch commands not allowed")

    def test_detail_counts_by_prefix(self):
        self.assertEqual(self.peer.ask(b"stats detail on"), b"OK")
        self.peer.ask(b"set a:1 0 0 1\r\nx")
        self.peer.get(b"a:1")
        self.peer.get(b"a:2")
        self.peer.get(b"plain")
        self.peer.ask(b"delete a:1")
        self.assertEqual(self.lines(b"stats detail dump", b"END"), [b"PREFIX a get 2 hit 1 set 1 del 1"])
        self.assertEqual(self.peer.ask(b"stats reset"), b"RESET")
        self.assertEqual(self.lines(b"stats detail dump", b"END"), [])

    def test_the_page_of_commands_is_current(self):
        with os.popen(f"{EBBD} --compatibility") as page, \
             open(os.path.join(os.path.dirname(__file__), "..", "..", "docs", "compatibility.md")) as file:
            self.assertEqual(file.read(), page.read(), "write it anew: ebbd --compatibility > docs/compatibility.md")


if __name__ == "__main__":
    unittest.main()
