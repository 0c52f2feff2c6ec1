#!/usr/bin/python3
"""Traces open in a viewer: slices nest, tracks are named, counters are there; slow requests are named; probes exist."""
import collections
import json
import re
import socket
import struct
import subprocess
import threading
import time
import unittest
import urllib.error
import urllib.request

from servers import EBBD, Server

VALUE_BYTES = 8 << 20
ROUNDING_US = 0.002  # times are written with three digits


def fill(server, stop, value=b"x" * 3000):
    peer = server.connect()
    number = 0
    while not stop.is_set():
        peer.send(b"".join(b"set key%d 0 0 %d noreply\r\n%s\r\n" % (n, len(value), value)
                           for n in range(number, number + 20)) + b"get key%d\r\n" % number)
        while peer.line() != b"END\r\n":
            pass
        number += 20
    peer.close()


def frame(opcode, key, extras=b"", value=b""):
    """A request of the binary protocol."""
    body = extras + key + value
    return struct.pack(">BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, 0, len(body), 0, 0) + body


def is_refused(server, seconds):
    """Whether a short trace of our own is refused, because another runs."""
    try:
        server.page(f"/debug/trace?seconds={seconds}")
        return False
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return True


def start_trace(server, seconds):
    """A connection that waits for a trace which runs."""
    while True:
        asker = socket.create_connection(("127.0.0.1", server.admin_port), 30)
        asker.sendall(b"GET /debug/trace?seconds=%g HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % seconds)
        if is_refused(server, 0.001):
            return asker
        asker.close()


class LongTrace(threading.Thread):
    """Asks for a trace until it is not refused for a shorter one of ours; answer: the text, or how it ended."""

    def __init__(self, server, seconds):
        super().__init__(daemon=True)
        self.server, self.seconds, self.answer = server, seconds, None
        self.start()

    def run(self):
        while True:
            try:
                self.answer = self.server.page(f"/debug/trace?seconds={self.seconds}")
                return
            except urllib.error.HTTPError as error:
                if b"running already" not in error.read():
                    self.answer = error
                    return
            except OSError as error:
                self.answer = error
                return

    def wait_until_it_runs(self):
        until = time.monotonic() + 30
        while not is_refused(self.server, 0.001):
            if time.monotonic() > until:
                raise AssertionError("the trace does not begin")


class Trace(unittest.TestCase):
    def test_a_trace_under_load_is_whole(self):
        with Server.ebbd(admin=True, flags=["-m", "8", "--latency-sample", "1"]) as server:
            stop = threading.Event()
            client = threading.Thread(target=fill, args=(server, stop))
            client.start()
            try:
                trace = json.loads(server.page("/debug/trace?seconds=1"))
            finally:
                stop.set()
                client.join()
        events = trace["traceEvents"]
        names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
        slices = collections.defaultdict(list)
        for event in events:
            self.assertEqual(event["pid"], server.pid)
            if event["ph"] == "X":
                self.assertGreaterEqual(event["dur"], 0)
                slices[event["tid"]].append(event)
        self.assertLessEqual(set(slices), set(names))
        for tid, track in slices.items():
            open_until = []
            for event in sorted(track, key=lambda one: (one["ts"], -one["dur"])):
                while open_until and open_until[-1] <= event["ts"] + ROUNDING_US:
                    open_until.pop()
                end = event["ts"] + event["dur"]
                if open_until:
                    self.assertLessEqual(end, open_until[-1] + ROUNDING_US, f"{names[tid]}: {event}")
                open_until.append(end)
        found = collections.Counter((names[tid].split("-")[0], event["name"])
                                    for tid, track in slices.items() for event in track)
        for wanted in (("worker", "carry out"), ("worker", "send"), ("worker", "set"),
                       ("collections", "collection"), ("collections", "world stopped"), ("collections", "mark")):
            self.assertGreater(found[wanted], 0, wanted)
        self.assertGreater(sum(count for (track, _), count in found.items() if track == "evictions"), 0)
        counters = {event["name"] for event in events if event["ph"] == "C"}
        self.assertEqual(counters, {"heap", "live heap", "resident"})

    def test_one_trace_at_a_time_and_bounds(self):
        with Server.ebbd(admin=True) as server:
            running = LongTrace(server, 1)
            running.wait_until_it_runs()
            running.join()
            json.loads(running.answer)
            json.loads(server.page("/debug/trace?seconds=0.01"))
            for wrong in ("0", "61", "-1", "x", "nan"):
                with self.assertRaises(urllib.error.HTTPError) as raised:
                    server.page(f"/debug/trace?seconds={wrong}")
                self.assertEqual(raised.exception.code, 400)

    def test_a_trace_whose_asker_hangs_up_is_over(self):
        with Server.ebbd(admin=True) as server:
            for _ in range(2):
                asker = start_trace(server, 60)
                asker.close()
                until = time.monotonic() + 30
                while is_refused(server, 0.01):
                    self.assertLess(time.monotonic(), until)
            with start_trace(server, 0.2) as asker:
                self.assertIn(b" 200 OK", asker.recv(100))

    def test_a_trace_may_take_longer_than_a_peer_may_be_silent(self):
        """Half a request ends after 10 s; who waits for a trace, and has sent the next request already, is answered."""
        with Server.ebbd(admin=True) as server, start_trace(server, 11) as asker:
            asker.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            told = b"".join(iter(lambda: asker.recv(1 << 16), b""))
            self.assertEqual(told.count(b" 200 OK\r\n"), 2)
            self.assertTrue(told.endswith(b"\r\n\r\nok\n"), told[-200:])

    def test_stopping_in_the_middle_of_a_trace_is_clean(self):
        server = Server.ebbd(admin=True)
        running = LongTrace(server, 60)
        running.wait_until_it_runs()
        server.stop()
        running.join()
        self.assertIsInstance(running.answer, OSError)  # 503, or the connection ends

    def test_slow_requests_are_named(self):
        wanted, requests = {f"set big-one 0 0 {VALUE_BYTES}", "set of?binary"}, set()
        with Server.ebbd(admin=True, flags=["-m", "256", "-I", "64m", "-t", "1"]) as server:
            until = time.monotonic() + 30
            while not wanted <= requests and time.monotonic() < until:  # a quick machine takes some in no time
                peer = server.connect()
                self.assertEqual(peer.set(b"big-one", b"x" * VALUE_BYTES), b"STORED")
                peer.close()
                binary = server.connect()
                binary.send(frame(1, b"of\nbinary", bytes(8), b"x" * VALUE_BYTES))
                binary.read(24)
                binary.close()
                slowest = json.loads(server.page("/debug/slow"))["slowest"]
                requests = {one["request"] for one in slowest}
            peer = server.connect()  # once: it takes longer, and only the slowest are kept
            peer.send(b"get" + b" big-one" * 8 + b"\r\n")
            left = 8 * VALUE_BYTES
            while left > 0:
                left -= len(peer.sock.recv(1 << 20))
            peer.close()
            slowest = json.loads(server.page("/debug/slow"))["slowest"]
        self.assertLessEqual(wanted, requests)
        self.assertEqual(slowest, sorted(slowest, key=lambda one: -one["seconds"]))
        for one in slowest:
            parts = one["queue_seconds"] + one["store_seconds"] + one["send_seconds"]
            self.assertAlmostEqual(one["seconds"], parts, places=6)
            self.assertGreaterEqual(one["seconds"], 0.001)
            self.assertGreater(one["bytes"], 0)

    def test_static_tracepoints_are_in_the_binary(self):
        notes = subprocess.run(["readelf", "-n", EBBD], check=True, capture_output=True, text=True).stdout
        lines = notes.splitlines()
        probes = {lines[i + 1].split()[-1] for i, line in enumerate(lines) if line.strip() == "Provider: ebb"}
        self.assertEqual(probes, {"request", "eviction", "collection", "resource_open", "resource_close"})

    def test_bpftrace_reads_the_tracepoints_of_a_live_daemon(self):
        if subprocess.run(["bpftrace", "-e", "BEGIN { exit(); }"], capture_output=True).returncode != 0:
            self.skipTest("this machine lets nobody trace")
        probe = f"usdt:{EBBD}:ebb"
        script = (f'{probe}:request /arg2 == 7 && @told == 0/ {{ @told = 1; printf("turn of %d: %s\\n", arg2, str(arg0, 11)); }}'
                  f'{probe}:collection /@gc == 0/ {{ @gc = 1; printf("a collection of %llu ns\\n", arg1); }}'
                  f'{probe}:resource_open /@open == 0/ {{ @open = 1; printf("descriptor %d\\n", arg1); }}'
                  f'{probe}:eviction /@gone == 0/ {{ @gone = 1; printf("evicted %llu bytes\\n", arg2); }}'
                  'interval:ms:10 /@told && @gc && @open && @gone/ { exit(); }')
        with Server.ebbd(admin=True, flags=["-m", "8", "--latency-sample", "1"]) as server:
            tracer = subprocess.Popen(["bpftrace", "-p", str(server.pid), "-e", script], text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            self.addCleanup(tracer.kill)
            until, number = time.monotonic() + 60, 0
            while tracer.poll() is None:
                self.assertLess(time.monotonic(), until)
                peer = server.connect()
                for number in range(number, number + 20):
                    peer.set(b"key%d" % number, b"x" * 20000)
                peer.send(b"get absent\r\n" * 7)
                peer.read(7 * len(b"END\r\n"))
                peer.close()
            told = tracer.stdout.read()
            tracer.stdout.close()
        self.assertIn("turn of 7: get absent\n", told)
        self.assertRegex(told, r"descriptor \d+\n")
        self.assertLess(int(re.search(r"a collection of (\d+) ns", told)[1]), 60 * 10**9)
        self.assertIn(int(re.search(r"evicted (\d+) bytes", told)[1]), range(20000, 1 << 20))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
