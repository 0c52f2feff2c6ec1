#!/usr/bin/python3
"""What deploy/ gives to other programs fits what a live ebbd tells: Grafana, Prometheus and Logstash find what they name."""
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from servers import SOURCE, Server, _die_with_parent, free_port, npm_folder, test_folder  # noqa: E402

DEPLOY = os.path.join(SOURCE, "deploy")
METRIC = re.compile(r"\b((?:ebb|memcached|process)_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
WAIT_SECONDS_MAX = 60
GRAFANA_TYPES = ("@grafana/schema@13.2.3", "typescript@5.9.3")
# Grafana puts these in; here the test does.
VARIABLES = {"$__rate_interval": "10s", "$job": "ebb", "$instance": ".*"}


def read(*path):
    with open(os.path.join(DEPLOY, *path)) as file:
        return file.read()


def queries():
    """(panel, expression) of the dashboard, with its variables filled in."""
    board = json.loads(read("grafana", "ebb.json"))
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    found += [(note["name"], note["expr"]) for note in board["annotations"]["list"]]
    for name, value in VARIABLES.items():
        found = [(title, expr.replace(name, value)) for title, expr in found]
    return found


class Prometheus:
    """A real one that scrapes one ebbd as deploy/prometheus/scrape.yml says, with the rules there."""

    def __init__(self, admin_port, alerts_to=None):
        self.port, folder = free_port(), test_folder("prometheus")
        config = read("prometheus", "scrape.yml").replace("127.0.0.1:9150", f"127.0.0.1:{admin_port}")
        config = re.sub(r"_interval: 10s", "_interval: 1s", config)
        if alerts_to:
            config += f'alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alerts_to}"]}}]}}]}}\n'
        shutil.copy(os.path.join(DEPLOY, "prometheus", "ebb.rules.yml"), folder)
        path = os.path.join(folder, "prometheus.yml")
        with open(path, "w") as file:
            file.write(config)
        with open(os.path.join(folder, "log"), "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, preexec_fn=_die_with_parent)

    def ask(self, expression):
        words = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{words}", timeout=WAIT_SECONDS_MAX) as reply:
            return json.load(reply)["data"]["result"]

    def wait(self, expression):
        until = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < until:
            try:
                if self.ask(expression):
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.1)
        raise AssertionError(f"Prometheus knows nothing of {expression}")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.kill()
        self.process.wait()


class Grafana(unittest.TestCase):
    def test_every_metric_it_names_is_told_by_a_live_daemon(self):
        with Server.ebbd(admin=True) as server:
            samples = server.metrics()
        names = {sample.split("{")[0] for sample in samples}
        count = 0
        for title, expression in queries():
            for name, selectors in METRIC.findall(expression):
                count += 1
                self.assertIn(name, names, title)
                for label, value in re.findall(r'(\w+)="([^"]*)"', selectors):
                    if label != "job":
                        self.assertTrue(any(s.startswith(name + "{") and f'{label}="{value}"' in s for s in samples), f"{title}: {label}={value}")
        self.assertGreater(count, 50)

    def test_every_query_is_answered_by_a_real_prometheus(self):
        with Server.ebbd(flags=["-m", "8", "--latency-sample", "1"], admin=True) as server, Prometheus(server.admin_port) as prometheus:
            peer = server.connect()
            prometheus.wait("count_over_time(memcached_up[10s]) > 1")
            for number in range(1000):  # more than fits: there are evictions and collections
                peer.set(b"key%d" % number, b"x" * 20000)
                peer.get(b"key%d" % (number * 2))
            for line in (b"delete key999", b"incr key998 1", b"touch key997 10", b"mg key996"):
                peer.ask(line)
            prometheus.wait("increase(memcached_commands_total{command=\"get\",status=\"hit\"}[10s]) > 0")
            prometheus.wait("increase(ebb_request_duration_seconds_count{class=\"get\"}[10s]) > 0")
            prometheus.wait("sum(increase(ebb_gc_collections_total[10s])) > 0")
            for title, expression in queries():
                found = [float(row["value"][1]) for row in prometheus.ask(expression)]
                if title != "Alarms":  # which are empty on a good day
                    self.assertTrue([value for value in found if math.isfinite(value)], f"{title}: {expression}: {found}")
            peer.close()

    def test_grafana_s_own_types_agree_with_it(self):
        folder = npm_folder(*GRAFANA_TYPES)
        board = json.loads(read("grafana", "ebb.json"))
        panels = board.pop("panels")
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "grafana.ts")) as file:
            types = file.read()
        with open(os.path.join(folder, "board.ts"), "w") as file:
            file.write(f"{types}\nexport const board: Board = {json.dumps(board, indent=1)};\n")
            for panel in panels:
                file.write(f"export const panel{panel['id']}: Panels[\"{panel['type']}\"] = {json.dumps(panel, indent=1)};\n")
        done = subprocess.run(["node_modules/.bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--module", "esnext",
                               "--moduleResolution", "bundler", "board.ts"], cwd=folder, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_panels_have_units_and_words_and_do_not_lie_on_each_other(self):
        board, taken = json.loads(read("grafana", "ebb.json")), set()
        self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells
            if panel["type"] != "row":
                self.assertTrue(panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"])


class PrometheusFiles(unittest.TestCase):
    def test_promtool_agrees_with_the_scrape_config(self):
        done = subprocess.run(["promtool", "check", "config", "scrape.yml"], cwd=os.path.join(DEPLOY, "prometheus"), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Logstash(unittest.TestCase):
    def test_the_fields_and_events_it_names_are_those_of_the_log(self):
        config = re.sub(r"#.*", "", read("logstash", "ebb.conf"))
        self.assertEqual(config.count("{"), config.count("}"))
        fields, events = re.findall(r"\[([\w.@]+)\] (?:==|in)", config), re.findall(r'\[event\.code\] == "(\w+)"', config)
        self.assertTrue(fields and events)
        with Server.ebbd(flags=["--log-format", "json"], admin=True) as server:
            known = {event["id"] for event in json.loads(server.page("/debug/events"))["events"]}
        lines = [json.loads(line) for line in server.stderr().splitlines() if line.startswith("{")]
        self.assertTrue(lines)
        for line in lines:
            for field in fields:
                self.assertIn(field, line)
        self.assertLessEqual(set(events), known)

    def test_jq_reads_the_log_of_a_whole_life(self):
        folder = test_folder("life")
        path, fifo = os.path.join(folder, "log"), os.path.join(folder, "pressure")
        os.mkfifo(fifo)
        pressure = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, pressure)
        os.environ["MEMORY_PRESSURE_WATCH"] = fifo
        try:
            server = Server.ebbd(flags=["-vv", "-c", "20", "--log-format", "json", "--log-file", path], admin=True)
        finally:
            del os.environ["MEMORY_PRESSURE_WATCH"]
        with server:
            peers = [server.connect() for _ in range(30)]
            peers[0].set(b"key", b"\xff\x00\"\\")
            peers[0].ask(b"get \x01\"quoted\"\\\xff")
            os.write(pressure, b"x")
            server.process.send_signal(signal.SIGHUP)
            server.process.send_signal(signal.SIGUSR1)
            until = time.monotonic() + WAIT_SECONDS_MAX
            while not {"alarm_raised", "memory_short", "log_reopened", "heap_line"} <= self.codes(path):
                self.assertLess(time.monotonic(), until)
                time.sleep(0.1)
            events = server.page("/debug/events")
            for peer in peers:
                peer.close()
        self.assertLessEqual({"serves", "admin_at", "connected", "asked", "disconnected", "stops", "collection", "ended"}, self.codes(path))
        known = json.dumps([event["id"] for event in json.loads(events)["events"]])
        wrong = self.jq('select((.["@timestamp"] | test("^[0-9-]{10}T[0-9:.]{12}Z$") | not) or (.message | type != "string" or . == "")'
                        ' or ([.["log.level"]] | inside(["error", "warn", "info", "debug", "trace"]) | not)'
                        ' or ([.["event.code"]] | inside($known) | not) or .["service.name"] != "ebbd" or .["log.logger"] == null'
                        ' or (to_entries | any(.value | type == "object" or type == "array" or . == null)))', path, "--argjson", "known", known)
        self.assertEqual(wrong, "")
        attention = self.jq('select(.["log.level"] == "warn" or .["log.level"] == "error") | .["event.code"]', path, "-r").split()
        self.assertIn("memory_short", attention)
        self.assertNotIn("serves", attention)

    def jq(self, program, path, *words):
        done = subprocess.run(["jq", "-c", *words, program, path], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def codes(self, path):
        with open(path) as file:
            whole = file.read().rpartition("\n")[0]
        return {json.loads(line)["event.code"] for line in whole.splitlines()}


if __name__ == "__main__":
    unittest.main(verbosity=2)
