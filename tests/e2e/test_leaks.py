#!/usr/bin/python3
"""After much coming and going nothing is left: no object, no descriptor. And the heap trace tells the same."""
import csv
import os
import random
import socket
import struct
import time
import unittest

from servers import Server, scaled, test_folder

CONNECTS = 15000
SETTLE_SECONDS_MAX = 30
LINGER_RESET = struct.pack("ii", 1, 0)
HEAP_TRACE_HEADER = ["time", "cause", "collection", "pause_ns"]


def assert_clean(test, metrics):
    """No leak, no misuse, nothing forgotten."""
    names = [name for name in metrics if name.startswith(("ebb_leaked_", "ebb_misuse_total", "ebb_resources_forgotten_total",
                                                          "ebb_stale_handles_total"))]
    test.assertGreaterEqual(len(names), 5)
    for name in names:
        test.assertEqual(metrics[name], 0, name)


def until(holds):
    """Waits until holds() is true; the caller asserts afterwards, so a slow machine does not fail."""
    end = time.monotonic() + SETTLE_SECONDS_MAX
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)


def interval_rows(path):
    with open(path) as file:
        return file.read().count(",interval,")


class Churn(unittest.TestCase):
    # How a client may come and go. Closing with a reset leaves no port in TIME_WAIT.
    MANNERS = [
        b"", b"get a", b"get a\r\n", b"set a 0 0 5\r\nhello\r\n", b"set a 0 0 5\r\nhel", b"set a 0 0 900000\r\n" + b"x" * 3000,
        b"get big\r\n" * 20, b"quit\r\n", b"nonsense\r\n", b"x" * 3000, b"set b 0 0 2000000\r\n" + b"y" * 100,
        b"gets a big\r\nincr a 1\r\n", b"set a 0 0 -1\r\n", b"get " + b"k " * 2000]

    def churn(self, server, count, rng):
        for number in range(count):
            peer = server.connect()
            try:
                manner = rng.choice(self.MANNERS)
                if manner:
                    peer.send(manner)
                if rng.random() < 0.3:
                    peer.sock.settimeout(0.001)
                    try:
                        peer.fill()
                    except TimeoutError:
                        pass
                if not server.unix_path:
                    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            except OSError:
                pass
            finally:
                peer.close()

    def run_churn(self, server, count):
        peer = server.connect()
        peer.set(b"big", b"B" * 200000)
        peer.set(b"kept", b"stays")
        peer.close()
        until(lambda: server.metrics()["memcached_current_connections"] == 0)
        before = server.descriptors()
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"churn: seed {seed}, {count} connections", flush=True)
        self.churn(server, count, random.Random(seed))
        until(lambda: server.metrics()["memcached_current_connections"] == 0)
        metrics = server.metrics()
        self.assertEqual(metrics["memcached_current_connections"], 0)
        self.assertGreaterEqual(metrics["memcached_connections_total"], count)
        assert_clean(self, metrics)
        self.assertEqual(metrics['ebb_resources_open{class="socket"}'], 0)
        # The admin connection of the last scrape may still be open for a moment.
        until(lambda: len(server.descriptors()) <= len(before))
        self.assertLessEqual(len(server.descriptors()), len(before))
        peer = server.connect()
        self.assertEqual(peer.get(b"kept"), b"stays")
        peer.close()

    def test_connections_over_tcp_leave_nothing(self):
        with Server.ebbd(admin=True, flags=["-m", "64"]) as server:
            self.run_churn(server, scaled(CONNECTS, 1000))

    def test_connections_over_a_unix_socket_leave_nothing(self):
        with Server.ebbd(admin=True, flags=["-m", "64"], unix_path=os.path.join(test_folder("churn"), "s")) as server:
            self.run_churn(server, scaled(CONNECTS, 1000))

    def test_more_connections_than_the_limit_wait_and_are_served(self):
        with Server.ebbd(admin=True, flags=["-c", "10", "-o", "no_maxconns_fast"]) as server:
            peers = [server.connect() for _ in range(10)]
            for peer in peers:
                self.assertEqual(peer.set(b"a", b"1"), b"STORED")
            late = server.connect()
            late.send(b"get a\r\n")
            for peer in peers:
                peer.close()
            self.assertEqual(late.line(), b"VALUE a 0 1\r\n")
            late.close()
            assert_clean(self, server.metrics())


class Eviction(unittest.TestCase):
    def test_ever_changing_sizes_keep_the_memory_limit_and_leak_nothing(self):
        limit = 64 << 20
        rng = random.Random(4)
        body = rng.randbytes(300000)
        with Server.ebbd(admin=True, flags=["-m", "64", "-t", "2"]) as server:
            peer = server.connect()
            sent, target = 0, scaled(1 << 30, 200 << 20)
            while sent < target:
                batch = []
                for _ in range(50):
                    length = int(rng.random() ** 4 * 300000)
                    batch.append(b"set k%d 0 %d %d noreply\r\n%s\r\n" % (rng.randrange(20000), rng.choice((0, 0, 5)), length,
                                                                         body[:length]))
                    sent += length
                peer.send(b"".join(batch))
                self.assertTrue(peer.ask(b"version"))
            metrics = server.metrics()
            self.assertGreater(metrics["memcached_items_evicted_total"], 0)
            self.assertGreater(metrics["memcached_current_items"], 0)
            self.assertLess(metrics["memcached_current_bytes"], limit)
            assert_clean(self, metrics)
            peer.close()
            # As much again is for the program itself; without the limit there would be a GiB.
            print(f"eviction: {sent >> 20} MiB set, resident {server.rss_bytes() >> 20} MiB", flush=True)
            if "EBB_SANITIZED" not in os.environ:
                self.assertLess(server.rss_bytes(), 2 * limit)


class HeapTrace(unittest.TestCase):
    def test_rows_are_whole_and_in_order(self):
        path = os.path.join(test_folder("trace"), "heap.csv")
        with Server.ebbd(flags=["--heap-trace", path, "-m", "16"]) as server:
            peer = server.connect()
            for number in range(scaled(400, 100)):
                self.assertEqual(peer.set(b"k%d" % number, b"x" * 400000), b"STORED")
            until(lambda: interval_rows(path) >= 2)
            peer.close()
        with open(path, newline="") as file:
            rows = list(csv.reader(file))
        header, rows = rows[0], rows[1:]
        self.assertEqual(header[:len(HEAP_TRACE_HEADER)], HEAP_TRACE_HEADER)
        self.assertGreater(len(rows), 4)
        for row in rows:
            self.assertEqual(len(row), len(header), row)
        rows = [dict(zip(header, row)) for row in rows]
        times = [float(row["time"]) for row in rows]
        self.assertEqual(times, sorted(times))
        collections = [int(row["collection"]) for row in rows]
        self.assertEqual(collections, sorted(collections))
        self.assertGreaterEqual(sum(row["cause"] == "interval" for row in rows), 2)
        self.assertGreaterEqual(sum(row["cause"] != "interval" for row in rows), 2)
        for row in rows:
            self.assertGreater(int(row["heap_bytes"]), 0)
            self.assertGreaterEqual(int(row["heap_bytes"]), int(row["live_bytes"]))
            self.assertEqual(int(row["leaks"]), 0)
            if row["cause"] != "interval":
                self.assertGreater(int(row["pause_ns"]), 0)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
