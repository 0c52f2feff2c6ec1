#!/usr/bin/python3
"""The daemon's own alarms, each made to fire by what it is for; a healthy daemon raises none; Prometheus' rules."""
import contextlib
import json
import os
import re
import resource
import subprocess
import time
import unittest
import urllib.request

from servers import Server, test_folder

PATIENCE_SECONDS = 60
SOURCE = os.environ["EBB_SOURCE"]


def raised(server):
    return {alarm["alarm"] for alarm in json.loads(server.page("/debug/alarms"))["alarms"] if alarm["raised"]}


def wait_for(server, name, work=lambda: time.sleep(0.1)):
    """Works until the alarm is raised."""
    until = time.monotonic() + PATIENCE_SECONDS
    while name not in raised(server):
        if time.monotonic() > until:
            raise AssertionError(f"{name} is not raised: {server.page('/debug/alarms')}")
        work()


def wait_for_log(server, pattern):
    until = time.monotonic() + PATIENCE_SECONDS
    while not re.search(pattern, server.stderr()):
        if time.monotonic() > until:
            raise AssertionError(f"{pattern} is not in the log:\n{server.stderr()}")
        time.sleep(0.05)


def gets(peer, key, count):
    peer.send(b"get %s\r\n" % key * count)
    for _ in range(count):
        while peer.line() != b"END\r\n":
            pass


def wait_until_over(server, name, work=lambda: time.sleep(0.1)):
    """Works until the alarm is over."""
    until = time.monotonic() + PATIENCE_SECONDS
    while name in raised(server):
        if time.monotonic() > until:
            raise AssertionError(f"{name} is not over: {server.page('/debug/alarms')}")
        work()
    assert server.metrics()[f'ebb_alarm{{alarm="{name}"}}'] == 0


def collect(server):
    urllib.request.urlopen(f"http://127.0.0.1:{server.admin_port}/debug/leaks", data=b"", timeout=60).close()


class Alarms(unittest.TestCase):
    """Each is raised in a running ebbd, by what the first line of its test says, and is over when that is. README.md has a
    table of these lines."""

    def planted(self, mistake, *alarms):
        """A daemon with a mistake of ours; it does not end well."""
        server = Server.planted(mistake, admin=True, flags=["--alarm=" + alarm for alarm in alarms])
        self.addCleanup(server.kill)
        return server

    def come_and_go(self, server, count=20):
        """Connections, at each of which a planted mistake is made."""
        for _ in range(count):
            peer = server.connect()
            peer.ask(b"version")
            peer.close()

    def test_heap_grows(self):
        """A connection leaves 64 KiB behind that something keeps (`plant.c`)."""
        server = self.planted("hoard", "heap_grows=1000000/10")

        def work():
            self.come_and_go(server)
            collect(server)
            time.sleep(0.1)
        wait_for(server, "heap_grows", work)
        server.plant("")
        wait_until_over(server, "heap_grows", lambda: (collect(server), time.sleep(0.1)))

    def test_descriptors_grow(self):
        """A connection leaves a descriptor behind that nobody closes (`plant.c`)."""
        server = self.planted("descriptor", "descriptors_grow=20/10")
        wait_for(server, "descriptors_grow", lambda: (self.come_and_go(server, 3), time.sleep(0.1)))
        server.plant("")
        wait_until_over(server, "descriptors_grow")

    def test_leaks_found(self):
        """A connection loses an object among 31 that it keeps (`plant.c`)."""
        server = self.planted("leak", "leaks_found=1/3")
        self.come_and_go(server)
        server.plant("")
        wait_for(server, "leaks_found", lambda: (collect(server), time.sleep(0.1)))
        wait_for_log(server, r"WARN  leak: \d+ conn \(\d+ bytes\) lost without ebb_done, at most \d+ s old, from .*accept4 \(plant\.c:\d+\)")
        wait_until_over(server, "leaks_found")

    def test_pauses_long(self):
        """200,000 objects are in the heap (`plant.c`), collected again and again; from 1 ms on instead of 50."""
        server = self.planted("objects", "pauses_long=0.001/3")
        wait_for(server, "pauses_long", lambda: (self.come_and_go(server, 1), collect(server)))
        wait_until_over(server, "pauses_long")

    def test_gc_share_high(self):
        """A daemon that does nothing else is told to collect, again and again."""
        with Server.ebbd(admin=True, flags=["--alarm=gc_share_high=0.25/4"]) as server:
            wait_for(server, "gc_share_high", lambda: [collect(server) for _ in range(200)])
            wait_until_over(server, "gc_share_high")

    def test_eviction_storm(self):
        """Far more is stored than fits into 8 MiB."""
        with Server.ebbd(admin=True, flags=["-m", "8", "--alarm", "eviction_storm=1/5"]) as server:
            peer = server.connect()
            number = 0

            def work():
                nonlocal number
                for number in range(number, number + 200):
                    peer.set(b"key%d" % number, b"x" * 10000)
            wait_for(server, "eviction_storm", work)
            self.assertEqual(server.metrics()['ebb_alarm{alarm="eviction_storm"}'], 1)
            self.assertRegex(server.page("/healthz"), r"^degraded\neviction_storm: .* raise -m")
            self.assertEqual(server.page("/readyz"), "ready\n")
            self.assertIn("WARN  alarm: eviction_storm: ", server.stderr())
            wait_until_over(server, "eviction_storm")
            wait_for_log(server, "INFO  alarm: eviction_storm is over")
            self.assertEqual(server.page("/healthz"), "ok\n")
            peer.close()

    def test_hit_ratio_fell(self):
        """Clients ask for keys that are there, then for keys that are not."""
        with Server.ebbd(admin=True, flags=["--alarm", "hit_ratio_fell=0.2/6"]) as server:
            peer = server.connect()
            peer.set(b"there", b"x")
            begin = time.monotonic()
            while time.monotonic() - begin < 5:
                gets(peer, b"there", 500)
            self.assertEqual(raised(server), set())
            wait_for(server, "hit_ratio_fell", lambda: gets(peer, b"absent", 500))
            wait_until_over(server, "hit_ratio_fell", lambda: gets(peer, b"there", 500))
            peer.close()

    def test_connections_near_limit(self):
        """18 of 20 allowed connections are open."""
        with Server.ebbd(admin=True, flags=["-c", "20", "--alarm", "connections_near_limit=0.9/2"]) as server:
            peers = [server.connect() for _ in range(18)]
            wait_for(server, "connections_near_limit")
            self.assertNotIn("connections_refused", raised(server))
            for peer in peers:
                peer.close()
            wait_until_over(server, "connections_near_limit")

    def test_connections_refused(self):
        """26 clients want one of 20 connections."""
        with Server.ebbd(admin=True, flags=["-c", "20", "--alarm", "connections_refused=1/3"]) as server:
            peers = [server.connect() for _ in range(26)]
            wait_for(server, "connections_refused")
            for peer in peers:
                peer.close()
            wait_until_over(server, "connections_refused")

    def test_descriptors_near_limit(self):
        """The system's limit is lowered to little more than what is open (prlimit)."""
        with Server.ebbd(admin=True, flags=["--alarm", "descriptors_near_limit=0.9/2"]) as server:
            before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            self.assertEqual(raised(server), set())
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (len(server.descriptors()) + 2, before[1]))
            wait_for(server, "descriptors_near_limit")
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
            wait_until_over(server, "descriptors_near_limit")

    def test_accept_refused(self):
        """The system's limit of descriptors is reached (prlimit)."""
        with Server.ebbd(admin=True, flags=["--alarm", "accept_refused=1/5"]) as server:
            before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            page = server.page("/debug/status")  # what the page itself needs is open
            self.assertIn("open_descriptors", page)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (len(server.descriptors()) + 1, before[1]))
            peers = [server.connect() for _ in range(10)]
            until = time.monotonic() + PATIENCE_SECONDS
            while "accepting" not in server.stderr() and "trying again" not in server.stderr():
                self.assertLess(time.monotonic(), until)
                time.sleep(0.05)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
            wait_for(server, "accept_refused")
            wait_until_over(server, "accept_refused")
            for peer in peers:
                peer.close()

    def test_memory_pressure(self):
        """What `$MEMORY_PRESSURE_WATCH` names says that memory is short."""
        fifo = os.path.join(test_folder("pressure"), "watch")
        os.mkfifo(fifo)
        keep = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, keep)
        with Server.ebbd(admin=True, flags=["--alarm", "memory_pressure=1/5"], environment={"MEMORY_PRESSURE_WATCH": fifo}) as server:
            self.assertEqual(raised(server), set())
            os.write(keep, b"x")
            wait_for(server, "memory_pressure")
            self.assertRegex(server.page("/healthz"), r"^degraded\nmemory_pressure: .*more memory")
            self.assertRegex(server.stderr(), r"WARN  memory: memory is short \(.*\)(?s:.*)WARN  alarm: memory_pressure: ")
            wait_until_over(server, "memory_pressure")

    def test_loop_stalled(self):
        """A get of 400,000 keys, which a worker looks up in one iteration; from 2 ms on instead of a second."""
        with Server.ebbd(admin=True, flags=["--stall-ms", "2", "-t", "1", "--alarm", "loop_stalled=1/2"]) as server:
            peer = server.connect()
            keys = b"get" + b" k" * (400 << 10) + b"\r\n"  # looked up in one iteration

            def work():
                peer.send(keys)
                self.assertEqual(peer.line(), b"END\r\n")
            wait_for(server, "loop_stalled", work)
            wait_for_log(server, r"WARN  loop: loop worker-0 has been in one iteration for \d+ ms, at \S+")
            # The daemon that nobody asks has no turn of a length, whoever else takes the processors.
            wait_until_over(server, "loop_stalled", lambda: time.sleep(3))
            peer.close()

    def test_log_lossy(self):
        """Who reads the log stands still."""
        fifo = os.path.join(test_folder("log"), "fifo")
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        with Server.ebbd(admin=True, flags=["--log-file", fifo, "-vv", "--alarm", "log_lossy=1/3"]) as server:
            peer = server.connect()
            wait_for(server, "log_lossy", lambda: gets(peer, b"key-that-makes-the-line-longer", 100))
            self.assertGreater(server.metrics()['ebb_log_dropped_total{reason="reader_slow"}'], 0)

            def read_on():
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 1 << 20)
                time.sleep(0.01)
            wait_until_over(server, "log_lossy", read_on)
            peer.close()
            os.close(reader)  # so that the end does not wait for it

    def test_each_alarm_has_a_test_and_its_row_in_the_table(self):
        with Server.ebbd(admin=True) as server:
            names = [alarm["alarm"] for alarm in json.loads(server.page("/debug/alarms"))["alarms"]]
        rows = [f"| `{name}` | {' '.join(getattr(Alarms, 'test_' + name).__doc__.split())} |" for name in names]
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "README.md")) as file:
            told = [line for line in file.read().splitlines() if line.startswith("| `")]
        self.assertEqual(told, rows, "the right rows:\n" + "\n".join(rows))

    def test_a_healthy_daemon_under_churn_raises_nothing(self):
        with Server.ebbd(admin=True) as server:
            begin = time.monotonic()
            while time.monotonic() - begin < 3:
                peers = [server.connect() for _ in range(20)]
                for number, peer in enumerate(peers):
                    peer.set(b"key%d" % number, b"x" * 1000)
                    gets(peer, b"key%d" % number, 5)
                    peer.close()
            self.assertEqual(server.page("/healthz"), "ok\n")
            self.assertEqual(raised(server), set())

    def test_a_wrong_threshold_is_a_usage_error(self):
        for wrong in ("eviction_storm", "no_such_alarm=1", "eviction_storm=much"):
            with self.assertRaisesRegex(AssertionError, "NAME=THRESHOLD"):
                Server.ebbd(flags=["--alarm", wrong])


class Rules(unittest.TestCase):
    """deploy/prometheus"""

    def test_each_rule_fires_on_what_it_is_for_and_none_on_a_lively_hour(self):
        done = subprocess.run(["promtool", "test", "rules", "ebb.rules.test.yml"], capture_output=True, text=True,
                              cwd=os.path.join(SOURCE, "deploy/prometheus"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_alarm_has_its_rule_and_each_metric_of_a_rule_exists(self):
        with open(os.path.join(SOURCE, "deploy/prometheus/ebb.rules.yml")) as file:
            text = file.read()
        rules = set(re.findall(r"- alert: (\w+)", text))
        with Server.ebbd(admin=True) as server:
            alarms = {alarm["alarm"] for alarm in json.loads(server.page("/debug/alarms"))["alarms"]}
            samples = {name.split("{")[0] for name in server.metrics()}
        self.assertEqual(rules - {"EbbDown"},
                         {"Ebb" + "".join(word.title() for word in name.split("_")) for name in alarms})
        for name in re.findall(r"\b(?:ebb|memcached|process)_\w+", re.sub(r"(?m)^ +(summary|description):.*$", "", text)):
            self.assertIn(name, samples)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
