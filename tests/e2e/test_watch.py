#!/usr/bin/python3
"""What watchers are told by ebbd and by memcached: the same lines, field by field.

Numbers that are each daemon's own are made alike: time, gid, descriptor, port, slab class; lifetimes to hundreds.
"""
import re
import socket
import struct
import time
import unittest

from servers import REPLY_SECONDS_MAX, Server, ServerError, free_port

KINDS = b"fetchers mutations evictions connevents"
OWN = re.compile(r"(?<=^ts=)\d+\.\d+|(?<= gid=)\d+|(?<= cfd=)-?\d+|(?<= rport=)[1-9]\d*|(?<= clsid=)[1-9]\d*|(?<= la=)\d+")

TEXT = [b"get a", b"set a 0 0 1\r\nv", b"get a", b"gets a b", b"set b 5 500 3\r\nfoo", b"get a b", b"gat 700 b", b"gats 700 b c", b"touch b 800", b"touch c 10",
        b"add a 0 0 1\r\nx", b"add n 0 0 1\r\nx", b"replace a 0 0 2\r\nxx", b"replace zz 0 900 1\r\nx", b"append a 0 0 1\r\ny", b"append zz 0 0 1\r\ny",
        b"append b 0 0 1\r\ny", b"prepend a 0 0 1\r\nz", b"cas a 0 0 1 99999\r\nw", b"cas zz 0 0 1 1\r\nw", b"set n 0 0 1 noreply\r\n5", b"incr n 5",
        b"incr n 50000", b"decr n 1", b"incr zz 1", b"decr a 1", b"delete a", b"delete a", b"set bad 0 0 1\r\nvvv", b"set n 0 0 2000000\r\n" + b"x" * 2000000,
        b"add big 0 0 2000000\r\n" + b"x" * 2000000, b"flush_all", b"get b", b"verbosity 0",
        b"set a%b 0 0 1\r\nv", b"get a%b", "set \u00e9 0 0 1\r\nv".encode(), b"set a,b 0 0 1\r\nv", b"set a:b-c_d.e~f*g/h=i 0 0 1\r\nv",
        b"set " + b"\xff" * 250 + b" 0 0 1\r\nv", b"get " + b"\xff" * 250]
META = [b"ms b 3 T500\r\nfoo", b"mg b", b"mg b v", b"mg q v N500", b"mg q v N500", b"mg b s v t f", b"mg b q k v", b"mg zz v", b"ms m 2\r\nhi", b"ms m 2 T700 F5 c\r\nhi",
        b"ms m 2 ME\r\nhi", b"ms m2 2 ME\r\nhi", b"ms m 2 MA\r\nhi", b"ms mm 2 MA\r\nhi", b"ms m 2 MP\r\nhi", b"ms m 2 MR\r\nhi", b"ms mm 2 MR\r\nhi", b"ms m 2 MA C1\r\nhi",
        b"ms m 2 C99999\r\nhi", b"ms m 2 C1 I\r\nhi", b"mg m v", b"mg m v", b"ms m 2000000\r\n" + b"x" * 2000000, b"ms QUJD 2 b\r\nhi", b"mg QUJD b v", b"ms m 1\r\nx", b"md m I T500",
        b"mg m t", b"md m C1", b"md m", b"md m", b"ms n 1\r\n1", b"ma n", b"ma n D5 MD", b"ma zz", b"ma zz2 N0 J13", b"me b", b"me zz", b"mg b T500", b"mg b R1000"]


def frame(opcode, key=b"", extras=b"", value=b"", cas=0):
    return struct.pack(">BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, 0, len(key) + len(extras) + len(value), 7, cas) + extras + key + value


STORE = struct.pack(">II", 3, 500)
DELTA, NO_CREATE = struct.pack(">QQI", 1, 5, 0), struct.pack(">QQI", 1, 5, 0xffffffff)
# A value that is too large is not asked for: memcached 1.6.18 crashes when it tells a watcher.
BINARY = [frame(0x00, b"a"), frame(0x01, b"a", STORE, b"val"), frame(0x00, b"a"), frame(0x0c, b"a"), frame(0x0c, b"zz"), frame(0x09, b"a"), frame(0x09, b"zz"), frame(0x0d, b"a"),
          frame(0x02, b"a", STORE, b"val"), frame(0x02, b"b", STORE, b"val"), frame(0x03, b"b", STORE, b"v"), frame(0x03, b"zz", STORE, b"v"), frame(0x0e, b"a", b"", b"xx"),
          frame(0x0e, b"zz", b"", b"xx"), frame(0x0f, b"a", b"", b"xx"), frame(0x19, b"a", b"", b"xx"), frame(0x11, b"a", STORE, b"val"), frame(0x05, b"n", DELTA),
          frame(0x05, b"n", DELTA), frame(0x05, b"m", NO_CREATE), frame(0x06, b"n", DELTA), frame(0x06, b"a", DELTA), frame(0x1c, b"a", b"\0\0\1\0"), frame(0x1c, b"zz", b"\0\0\1\0"),
          frame(0x1d, b"a", b"\0\0\1\0"), frame(0x1e, b"a", b"\0\0\1\0"), frame(0x23, b"a", b"\0\0\1\0"), frame(0x1d, b"zz", b"\0\0\1\0"),
          frame(0x01, b"a", STORE, b"val", 99999), frame(0x01, b"zz", STORE, b"val", 99999), frame(0x0e, b"a", b"", b"x", 99999), frame(0x04, b"a", cas=99999),
          frame(0x04, b"a"), frame(0x04, b"a"), frame(0x08), frame(0x00, b"b")]


def alike(line):
    line = OWN.sub("N", line.decode())
    line = re.sub("status=(flushed|expired)", "status=not_found", line)  # such an item is gone at once here
    return re.sub(r"(?<= ttl=)[1-9]\d*", lambda found: str(round(int(found[0]), -2)), line)


class Watch(unittest.TestCase):
    def server(self, kind, **options):
        # One worker, so that lines come in order.
        server = kind(**{**options, "flags": options.get("flags", []) + ["-t", "1"]})
        self.addCleanup(server.stop)
        watcher, peer = server.connect(), server.connect()
        self.addCleanup(watcher.close)
        self.addCleanup(peer.close)
        watcher.ask(b"mn")
        until = time.monotonic() + REPLY_SECONDS_MAX
        while time.monotonic() < until:  # who looked whether the server answers is gone
            states = [state for name, state in peer.stats(b"conns").items() if name.endswith(":state")]
            if len(states) - states.count("conn_listening") == 2:
                break
        return server, watcher, peer

    def told(self, watcher, peer):
        """The lines until now."""
        peer.ask(b"set that_was_all 0 0 1\r\nx")
        lines = []
        while not lines or "item_store key=that_was_all " not in lines[-1]:
            lines.append(alike(watcher.line()))
        return lines[:-2]  # and its lookup

    def steps(self, steps, kinds=b"fetchers mutations", binary=False):
        """What a watcher is told of each step, by both."""
        said = []
        for kind in (Server.ebbd, Server.memcached):
            server, watcher, peer = self.server(kind)
            asker = server.connect() if binary else peer
            self.addCleanup(asker.close)
            self.assertEqual(watcher.ask(b"watch " + kinds), b"OK")
            lines = []
            for step in steps:
                asker.send(step + (frame(0x0a) if binary else b"\r\nmn\r\n"))
                if binary:
                    while not self.noop(asker):
                        pass
                else:
                    while asker.line() != b"MN\r\n":
                        pass
                lines.append((step[:60], self.told(watcher, peer)))
            said.append(lines)
        for ours, theirs in zip(*said):
            self.assertEqual(ours, theirs)
        self.assertGreater(sum(len(lines) for _, lines in said[0]), 0)

    @staticmethod
    def noop(peer):
        head = peer.read(24)
        peer.read(struct.unpack(">I", head[8:12])[0])
        return head[1] == 0x0a

    def test_text_commands(self):
        self.steps(TEXT)

    def test_meta_commands(self):
        self.steps(META)

    def test_binary_commands(self):
        self.steps(BINARY, binary=True)

    def test_kinds_that_are_asked_for_alone(self):
        steps = [b"set a 0 0 1\r\nx", b"get a", b"append a 0 0 1\r\nx", b"delete a"]
        self.steps(steps, b"mutations fetchers mutations")
        said = []
        for kind in (Server.ebbd, Server.memcached):
            _, watcher, peer = self.server(kind)
            self.assertEqual(watcher.ask(b"watch mutations"), b"OK")
            for step in steps + [b"set end 0 0 1\r\nx"]:
                peer.ask(step)
            said.append([alike(watcher.line()) for _ in range(3)])
        self.assertEqual(said[0], said[1])

    def test_connections_and_why_they_end(self):
        def reset(peer):
            peer.ask(b"mn")
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def ask(data):
            return lambda peer: (peer.send(data), peer.closed())

        ways = [lambda peer: peer.ask(b"mn"), ask(b"quit\r\n"), reset, ask(b"x" * 5000), ask(frame(0x0a) + b"\0" * 30), ask(frame(0x07)), ask(frame(0x01, b"a", b"", b"x")),
                lambda peer: peer.send(b"set a 0 0 10\r\nabc"), lambda peer: peer.ask(b"watch evictions")]
        for where in ("tcp", "unix", "tcp6"):
            said = []
            for kind in (Server.ebbd, Server.memcached):
                six = free_port()
                options = {"tcp": {}, "unix": {"unix_path": f"/tmp/ebb-watch-{six}"}, "tcp6": {"flags": ["-l", f"[::1]:{six}"]}}[where]
                server, watcher, peer = self.server(kind, **options)
                self.assertEqual(watcher.ask(b"watch connevents mutations"), b"OK")
                lines = []
                for way in ways:
                    other = server.connect()
                    try:
                        way(other)
                    except (ConnectionResetError, ServerError):
                        pass
                    other.close()
                    lines += [alike(watcher.line()) for _ in range(2)]
                if where == "tcp6":
                    socket.create_connection(("::1", six)).close()
                    lines += [alike(watcher.line()) for _ in range(2)]
                said.append(lines)
            self.assertEqual(said[0], said[1])

    def test_an_idle_connection_ends_by_its_timeout(self):
        said = []
        for kind in (Server.ebbd, Server.memcached):
            server, watcher, peer = self.server(kind, flags=["-o", "idle_timeout=1"])
            self.assertEqual(watcher.ask(b"watch connevents"), b"OK")
            said.append(alike(watcher.line()))
        self.assertEqual(said[0], said[1])
        self.assertIn("reason=idle_timeout", said[0])

    def test_evictions(self):
        said = []
        for kind in (Server.ebbd, Server.memcached):
            _, watcher, peer = self.server(kind, flags=["-m", "8"])
            self.assertEqual(watcher.ask(b"watch evictions"), b"OK")
            kinds = set()
            wanted = {(fetch, ttl) for fetch in ("yes", "no") for ttl in ("-1", "5000")}
            number = 0
            until = time.monotonic() + REPLY_SECONDS_MAX
            watcher.sock.setblocking(False)
            while kinds < wanted and time.monotonic() < until:
                for i in range(number, number + 200):
                    peer.set(b"k%d" % i, b"x" * 1000, ttl=0 if i % 2 else 5000)
                    if i % 3 == 0:
                        peer.get(b"k%d" % i)
                number += 200
                try:
                    watcher.fill()
                except BlockingIOError:
                    continue
                while b"\n" in watcher.buffer:
                    line = re.sub(r"k\d+", "K", alike(watcher.line()))
                    if line.startswith("skipped="):
                        continue
                    found = re.search(r"fetch=(\w+) ttl=(-?\d+)", line)
                    kinds.add((found[1], found[2]))
                    shape = line.replace(found[0], "")
            said.append((kinds, shape))
        self.assertEqual(said[0], said[1])

    def test_words_of_watch(self):
        said = []
        many = b" ".join([KINDS] * 5)
        for kind in (Server.ebbd, Server.memcached):
            server, _, _ = self.server(kind)
            lines = []
            for words in (b"", b" ", b"fetchers", KINDS, b"nonsense", b"fetchers nonsense", b"nonsense fetchers", b"FETCHERS", b" evictions", b"fetchers fetchers", b"rawcmds",
                          b"sysevents", b"proxyreqs proxyuser proxyevents", many, many + b" nonsense", b"nonsense noreply", b"noreply", b"fetchers noreply", b"noreply fetchers"):
                peer = server.connect()
                peer.ask(b"mn")
                peer.send(b"watch " + words + b"\r\n")
                silent = words.endswith(b"noreply")
                if silent:
                    peer.send(b"mn\r\n")
                lines.append((words, peer.line()))
                peer.close()
            said.append(lines)
        for ours, theirs in zip(*said):
            self.assertEqual(ours, theirs)

    def test_more_watchers_than_there_may_be(self):
        said = []
        for kind in (Server.ebbd, Server.memcached):
            server, _, peer = self.server(kind)
            lines = []
            for _ in range(22):
                watcher = server.connect()
                self.addCleanup(watcher.close)
                lines.append(watcher.ask(b"watch fetchers"))
            until = time.monotonic() + REPLY_SECONDS_MAX
            while peer.stats()["log_watchers"] != "20" and time.monotonic() < until:
                pass
            said.append((lines, peer.stats()["log_watchers"]))
        self.assertEqual(said[0], said[1])

    def test_lines_that_are_lost_are_counted_and_told(self):
        """Every line is sent, skipped or (memcached) dropped by its worker; skipped ones are told before the next."""
        for kind in (Server.ebbd, Server.memcached):
            server, _, peer = self.server(kind)
            watcher = server.connect(receive_buffer=4096)
            self.addCleanup(watcher.close)
            self.assertEqual(watcher.ask(b"watch mutations"), b"OK")
            until = time.monotonic() + REPLY_SECONDS_MAX
            stored = 0
            while int(peer.stats()["log_watcher_skipped"]) == 0 and time.monotonic() < until:
                peer.send(b"set a 0 0 1 noreply\r\nx\r\n" * 300 + b"mn\r\n")
                stored += 300
                self.assertEqual(peer.line(), b"MN\r\n")
            skipped = sent = 0
            while not skipped or int(peer.stats()["log_watcher_skipped"]) != skipped or sent == 0:
                peer.ask(b"set a 0 0 1\r\nx")
                stored += 1
                line = watcher.line().decode()
                self.assertRegex(line, r"^(skipped=\d+|ts=\d+\.\d+ gid=\d+ type=item_store key=a status=stored cmd=set ttl=0 clsid=\d+ cfd=\d+ size=1)\n$", server.name)
                if line.startswith("skipped="):
                    skipped += int(line[8:])
                else:
                    sent += 1
            lines = {}
            while lines.get("told") != stored and time.monotonic() < until:  # memcached tells by a thread of its own
                stats = {name: int(value) for name, value in peer.stats().items() if name.startswith("log_")}
                lines = {"told": stats["log_worker_written"] + stats["log_worker_dropped"], "worker": stats["log_worker_written"],
                         "watcher": stats["log_watcher_sent"] + stats["log_watcher_skipped"]}
            self.assertEqual(lines["told"], stored, server.name)
            self.assertEqual(lines["watcher"], lines["worker"], server.name)


if __name__ == "__main__":
    unittest.main()
