#!/usr/bin/python3
"""The daemon's own alarms, each made to fire by what it is for; a healthy daemon raises none; Prometheus' rules."""
import json
import os
import re
import resource
import subprocess
import time
import unittest

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


def gets(peer, key, count):
    peer.send(b"get %s\r\n" % key * count)
    for _ in range(count):
        while peer.line() != b"END\r\n":
            pass


class Alarms(unittest.TestCase):
    def test_eviction_storm(self):
        with Server.ebbd(admin=True, flags=["-m", "8", "--alarm", "eviction_storm=1/10"]) as server:
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
            peer.close()

    def test_hit_ratio_fell(self):
        with Server.ebbd(admin=True, flags=["--alarm", "hit_ratio_fell=0.2/6"]) as server:
            peer = server.connect()
            peer.set(b"there", b"x")
            begin = time.monotonic()
            while time.monotonic() - begin < 5:
                gets(peer, b"there", 500)
            self.assertEqual(raised(server), set())
            wait_for(server, "hit_ratio_fell", lambda: gets(peer, b"absent", 500))
            peer.close()

    def test_connections_near_and_at_the_limit(self):
        with Server.ebbd(admin=True, flags=["-c", "20", "--alarm", "connections_near_limit=0.9/2"]) as server:
            peers = [server.connect() for _ in range(18)]
            wait_for(server, "connections_near_limit")
            self.assertNotIn("connections_refused", raised(server))
            peers += [server.connect() for _ in range(8)]
            wait_for(server, "connections_refused")
            for peer in peers:
                peer.close()

    def test_accept_refused_when_descriptors_run_out(self):
        with Server.ebbd(admin=True) as server:
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
            for peer in peers:
                peer.close()

    def test_memory_pressure(self):
        fifo = os.path.join(test_folder("pressure"), "watch")
        os.mkfifo(fifo)
        keep = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, keep)
        os.environ["MEMORY_PRESSURE_WATCH"] = fifo
        try:
            server = Server.ebbd(admin=True)
        finally:
            del os.environ["MEMORY_PRESSURE_WATCH"]
        with server:
            self.assertEqual(raised(server), set())
            os.write(keep, b"x")
            wait_for(server, "memory_pressure")
            self.assertRegex(server.page("/healthz"), r"^degraded\nmemory_pressure: .*more memory")
            self.assertRegex(server.stderr(), r"WARN  memory: memory is short \(.*\)(?s:.*)WARN  alarm: memory_pressure: ")

    def test_loop_stalled_names_where_a_worker_stood(self):
        with Server.ebbd(admin=True, flags=["--stall-ms", "2", "-t", "1"]) as server:
            peer = server.connect()
            keys = b"get" + b" k" * (400 << 10) + b"\r\n"  # looked up in one turn

            def work():
                peer.send(keys)
                self.assertEqual(peer.line(), b"END\r\n")
            wait_for(server, "loop_stalled", work)
            self.assertRegex(server.stderr(), r"WARN  loop: loop worker-0 has been in one turn for \d+ ms, at \S+")
            peer.close()

    def test_a_reader_of_the_log_that_stands_still_is_an_alarm(self):
        fifo = os.path.join(test_folder("log"), "fifo")
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        with Server.ebbd(admin=True, flags=["--log-file", fifo, "-vv"]) as server:
            peer = server.connect()
            wait_for(server, "log_lossy", lambda: gets(peer, b"key-that-makes-the-line-longer", 100))
            self.assertGreater(server.metrics()['ebb_log_dropped_total{reason="reader_slow"}'], 0)
            peer.close()
            os.close(reader)  # so that the end does not wait for it

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
