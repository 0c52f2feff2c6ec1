#!/usr/bin/python3
"""What stats says, beside what memcached says: the same fields in the same order, and figures that count the same."""
import os
import re
import subprocess
import tempfile
import time
import unittest

from servers import EBBD, REPLY_SECONDS_MAX, Server, free_port

# Storage outside of memory and TLS: memcached itself has these only when it is built with them.
NOT_HERE = re.compile(r"ext_\w+|slab_automove_freeratio|ssl_(?!enabled)\w+")
COUNTERS = re.compile(r"cmd_|get_|touch_|delete_|incr_|decr_|cas_|store_|auth_|total_items|curr_items")
# memcached's lists are not tuned meanwhile, so nothing but the commands moves its counters.
STILL = ["-o", "no_modern"]

COMMANDS = [
    b"set a 0 0 1\r\n1", b"get a", b"get no", b"get a no a", b"gets a", b"gat 0 a", b"gat 0 no", b"gats 0 a no", b"touch a 0", b"touch no 0",
    b"incr a 1", b"incr no 1", b"decr a 1", b"decr no 1", b"set t 0 0 1\r\nx", b"incr t 1", b"append a 0 0 1\r\n1", b"append no 0 0 1\r\n1",
    b"replace a 0 0 1\r\n1", b"replace no 0 0 1\r\n1", b"add a 0 0 1\r\n1", b"add new 0 0 1\r\n1", b"cas a 0 0 1 1\r\n1", b"cas no 0 0 1 1\r\n1",
    b"delete new", b"delete new", b"set big 0 0 2000000\r\n" + b"x" * 2000000, b"mg a", b"mg a s v", b"mg no s", b"mg no v q", b"mg a T0",
    b"mg a T0 v", b"mg no T0", b"mg viv N30 v", b"mg viv v", b"me a", b"me no", b"ms a 1\r\n2", b"ms no2 1 MR\r\n2", b"ms a 1 C1\r\n2",
    b"ms nope 1 C1\r\n2", b"ms a 1 MA\r\n2", b"ms a 1 ME\r\n2", b"ma a", b"ma no", b"ma a MD", b"ma made N0", b"ma a C1", b"md a C1", b"md a I T30",
    b"md a", b"md a", b"mn", b"set e 0 -1 1\r\n1", b"get e", b"get e", b"touch e 0", b"verbosity 0", b"version", b"nonsense", b"flush_all",
    b"set f 0 0 1\r\n1", b"get f"]


class Stats(unittest.TestCase):
    def pair(self, *flags):
        """ebbd and memcached, each with a connection."""
        out = []
        for kind in (Server.ebbd, Server.memcached):
            server = kind(flags=list(flags))
            self.addCleanup(server.stop)
            peer = server.connect()
            self.addCleanup(peer.close)
            out.append((server, peer))
        return out

    @staticmethod
    def done(peer, command):
        """Sends it; whatever it says is read."""
        peer.send(command + b"\r\nmn\r\n" * (1 if command != b"mn" else 0) + (b"\r\n" if command == b"mn" else b""))
        while peer.line() != b"MN\r\n":
            pass

    @staticmethod
    def names(stats):
        """The fields in order, each class's once."""
        return list(dict.fromkeys(re.sub(r"^(items:)?\d+:", r"\1N:", name) for name in stats))

    def test_every_field_of_memcached_is_there_in_its_order(self):
        ours, theirs = [peer for _, peer in self.pair()]
        for word, least in ((b"", 70), (b"settings", 40), (b"items", 28), (b"slabs", 17)):
            said = []
            for peer in (ours, theirs):
                peer.set(b"key", b"value")
                said.append(self.names(peer.stats(word) if word else peer.stats()))
            wanted = [name for name in said[1] if not NOT_HERE.fullmatch(name)]
            self.assertGreaterEqual(len(wanted), least, word)
            self.assertEqual([name for name in said[0] if name in wanted], wanted, word)

    def test_every_version_is_the_plain_number_of_a_memcached(self):
        server = Server.ebbd(admin=True)
        self.addCleanup(server.stop)
        peer, frame = server.connect(), server.connect()
        self.addCleanup(peer.close)
        self.addCleanup(frame.close)
        stats, said = peer.stats(), peer.ask(b"version").decode()
        self.assertRegex(said, r"\AVERSION 1\.6\.\d+\Z")
        number = said.split()[1]
        frame.send(b"\x80\x0b" + bytes(22))
        self.assertEqual(frame.read(24 + len(number))[24:].decode(), number)
        self.assertEqual((stats["version"], stats["program"]), (number, "ebbd"))
        told = subprocess.run([EBBD, "--version"], check=True, capture_output=True, text=True).stdout
        self.assertEqual(told, f"ebbd {stats['ebb_version']}\n")
        self.assertEqual(server.metrics()[f'memcached_version{{version="{number}"}}'], 1)

    def test_commands_are_counted_as_memcached_counts_them(self):
        (_, ours), (_, theirs) = self.pair(*STILL)
        for command in COMMANDS:
            said = []
            for peer in (ours, theirs):
                self.done(peer, command)
                said.append({name: value for name, value in peer.stats().items() if COUNTERS.match(name)})
            # What is flushed or over is gone here at once, so it is no item any more, and a later look is a plain miss.
            for one in said:
                for name in ("curr_items", "get_flushed") + (("get_expired",) if command in (b"get e", b"touch e 0") else ()):
                    del one[name]
                one.pop("get_expired", None)
            self.assertEqual(said[0], said[1], command[:60])

    def test_what_comes_too_late_is_counted_as_memcached_counts_it(self):
        """Once: who comes first takes it away. An older item keeps memcached from finding it at the end of its list."""
        late = (b"get %s", b"gets %s %s", b"gat 0 %s", b"touch %s 0", b"incr %s 1", b"decr %s 1", b"delete %s", b"mg %s v", b"mg %s N30 v", b"mg %s T30", b"mg %s R30 v",
                b"me %s", b"md %s", b"md %s I", b"ma %s", b"ma %s N0 J1", b"set %s 0 0 1\r\nx", b"add %s 0 0 1\r\nx", b"replace %s 0 0 1\r\nx", b"append %s 0 0 1\r\nx",
                b"prepend %s 0 0 1\r\nx", b"cas %s 0 0 1 1\r\nx", b"ms %s 1\r\nx", b"ms %s 1 MA\r\nx", b"ms %s 1 C1\r\nx",
                b"set %s 0 0 2000000\r\n" + b"x" * 2000000)
        names = ("get_expired", "reclaimed", "expired_unfetched", "get_misses", "touch_misses", "curr_items", "total_items")
        said = []
        for _, peer in self.pair(*STILL):
            lines = []
            peer.set(b"old", b"1")
            for number, command in enumerate(late):
                asked = command.replace(b"%s", b"e%d" % number)
                self.done(peer, b"set e%d 0 -1 1\r\n1\r\n" % number + asked + b"\r\n" + asked)
                stats = peer.stats()
                lines.append((command[:30], [stats[name] for name in names]))
            said.append(lines)
        for ours, theirs in zip(*said):
            self.assertEqual(ours, theirs)

    def test_a_reset_takes_back_what_memcached_takes_back(self):
        said = []
        for _, peer in self.pair("-m", "8", *STILL):
            for start in range(0, 12000, 100):
                peer.send(b"".join(b"set k%d 0 1000 1000 noreply\r\n%s\r\n" % (i, b"x" * 1000) for i in range(start, start + 100)))
            self.done(peer, b"get k11999 none")
            before = [dict(peer.stats()), dict(peer.stats(b"items"))]
            self.assertEqual(peer.ask(b"stats reset"), b"RESET")
            after = [dict(peer.stats()), dict(peer.stats(b"items"))]
            said.append([{re.sub(r":\d+:", ":1:", name): (value, now.get(name)) for name, value in then.items()}
                         for then, now in zip(before, after)])
        checked = 0
        for ours, theirs in zip(*said):
            for name, (then, now) in theirs.items():
                if then not in ("0", "0.000000") and now == "0" and ours[name][0] != "0":
                    self.assertEqual(ours[name][1], "0", name)
                    checked += 1
        self.assertGreater(checked, 10)
        for name in ("evictions", "total_items", "evicted_unfetched"):
            self.assertNotEqual(said[0][0][name][0], "0")
        self.assertEqual(said[0][1]["items:1:evicted_nonzero"][0], said[0][1]["items:1:evicted"][0])

    def conns(self, peer):
        """Lists of (field, value), one for each descriptor."""
        out = {}
        for name, value in peer.stats(b"conns").items():
            number, field = name.split(":", 1)
            out.setdefault(int(number), []).append((field, value))
        return list(out.values())

    def test_conns_tells_of_sockets_and_connections_as_memcached_does(self):
        said = []
        for kind in (Server.ebbd, Server.memcached):
            udp, second = free_port(), free_port()
            server = kind(flags=["-t", "1", "-U", str(udp), "-l", f"127.0.0.2:{second}"])
            self.addCleanup(server.stop)
            peers = [server.connect() for _ in range(4)]
            for peer in peers:
                self.addCleanup(peer.close)
                peer.ask(b"mn")
            peers[1].send(b"set a 0 0 10\r\nab")
            peers[2].ask(b"watch mutations")
            until = time.monotonic() + REPLY_SECONDS_MAX
            states = []
            while states != ["conn_nread", "conn_parse_cmd", "conn_read", "conn_watch"] and time.monotonic() < until:
                found = [dict(one) for one in self.conns(peers[0])]
                states = sorted(one["state"] for one in found if "listen_addr" in one)
            shown = {f"tcp:127.0.0.1:{server.port}": "first", f"tcp:127.0.0.2:{second}": "second", f"udp:127.0.0.1:{udp}": "datagrams",
                     f"udp:127.0.0.2:{second}": "more datagrams"}
            said.append(sorted((one["state"], "UDP" in one, shown.get(one["addr"], "a client"), shown.get(one.get("listen_addr")),
                                list(one)) for one in found))
        self.assertEqual(said[0], said[1])

    def test_conns_of_a_unix_socket(self):
        for kind in (Server.ebbd, Server.memcached):
            path = tempfile.mktemp(prefix="ebb", dir="/tmp")  # short: memcached tells no more of it
            server = kind(unix_path=path)
            self.addCleanup(server.stop)
            peer = server.connect()
            self.addCleanup(peer.close)
            by_state = {dict(one)["state"]: dict(one) for one in self.conns(peer)}
            listens, asks = by_state["conn_listening"], by_state["conn_parse_cmd"]
            self.assertEqual((listens["state"], listens["addr"]), ("conn_listening", "unix:" + path))
            self.assertEqual((asks["state"], asks["listen_addr"]), ("conn_parse_cmd", "unix:" + path))

    def test_conns_tells_for_how_long_nobody_asked(self):
        (server, peer), _ = self.pair()
        idle = server.connect()
        self.addCleanup(idle.close)
        idle.ask(b"mn")
        until = time.monotonic() + REPLY_SECONDS_MAX
        while time.monotonic() < until:
            found = [dict(one) for one in self.conns(peer)]
            seconds = {one["state"]: int(one["secs_since_last_cmd"]) for one in found}
            if seconds["conn_read"] >= 1:
                break
            time.sleep(0.1)
        self.assertGreaterEqual(seconds["conn_read"], 1)
        self.assertGreaterEqual(seconds["conn_listening"], seconds["conn_read"])
        self.assertEqual(seconds["conn_parse_cmd"], 0)

    def test_the_time_at_the_limit_of_connections_is_told(self):
        server = Server.ebbd(flags=["-c", "3", "-o", "no_maxconns_fast"])
        self.addCleanup(server.stop)
        peers = [server.connect() for _ in range(3)]
        for peer in peers:
            self.addCleanup(peer.close)
            peer.ask(b"mn")
        self.assertEqual(peers[0].stats()["accepting_conns"], "0")
        peers.pop().close()
        until = time.monotonic() + REPLY_SECONDS_MAX
        while peers[0].stats()["accepting_conns"] == "0" and time.monotonic() < until:
            time.sleep(0.01)
        stats = peers[0].stats()
        self.assertEqual(stats["accepting_conns"], "1")
        self.assertGreater(int(stats["listen_disabled_num"]), 0)
        self.assertGreater(int(stats["time_in_listen_disabled_us"]), 0)

    def test_every_address_is_in_the_settings(self):
        for kind in (Server.ebbd, Server.memcached):
            more = f"127.0.0.2:{free_port()},127.0.0.3:{free_port()}"
            server = kind(flags=["-l", more])
            self.addCleanup(server.stop)
            peer = server.connect()
            self.addCleanup(peer.close)
            self.assertEqual(peer.stats(b"settings")["inter"], "127.0.0.1," + more)

    def test_other_words_are_answered_as_by_memcached(self):
        (_, ours), (_, theirs) = self.pair()
        for words in (b"nonsense", b"RESET", b"noreply", b"malloc", b"maps", b"proxy", b"proxyfuncs", b"extstore", b"detail", b"detail maybe", b"detail on",
                      b"detail on x", b"detail dump x", b"detail off noreply", b"detail dump", b"reset x", b"cachedump", b"cachedump 1", b"cachedump 1 1",
                      b"cachedump 1 a", b"cachedump a 1", b"cachedump 64 1", b"cachedump 255 1", b"cachedump 256 1", b"cachedump 63 1", b"cachedump -1 1",
                      b"cachedump 1 -1", b"cachedump 1 1 1", b"cachedump 4294967296 1", b"cachedump 1 4294967296", b"items", b"slabs x y z w"):
            for peer in (ours, theirs):
                peer.send(b"stats " + words + b"\r\nmn\r\n")
            said = [b"", b""]
            for side, peer in enumerate((ours, theirs)):
                while not said[side].endswith(b"MN\r\n"):
                    said[side] += peer.line()
            if words.startswith(b"slabs"):
                said = [re.sub(rb"STAT [^\r]*\r\n", b"", one) for one in said]
            self.assertEqual(said[0], said[1], words)


if __name__ == "__main__":
    unittest.main()
