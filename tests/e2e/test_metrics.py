#!/usr/bin/python3
"""What /metrics says is read by those who read metrics: promtool, OpenMetrics' own parser, a Prometheus that scrapes."""
import contextlib
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request

from servers import Server, free_port

PROMETHEUS_SECONDS_MAX = 60
DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs")
ACCEPT_OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def scrape(server, accept):
    request = urllib.request.Request(f"http://127.0.0.1:{server.admin_port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.headers["Content-Type"], reply.read().decode()


def work(server, requests=200):
    peer = server.connect()
    for number in range(requests):
        peer.set(b"key%d" % number, b"value")
        peer.get(b"key%d" % number)
        peer.get(b"absent%d" % number)
    peer.ask(b"delete key1")
    peer.ask(b"touch key2 100")
    peer.set(b"number", b"1")
    peer.ask(b"incr number 1")
    peer.close()


def reference(text):
    """Rows of a table, one for each family of a scrape: name, kind, labels, help."""
    rows = []
    for name, help, kind in re.findall(r"(?m)^# HELP (\S+) (.*)\n# TYPE \S+ (\w+)$", text):
        labels = re.search(rf"(?m)^{name}(?:_bucket)?\{{(.*)\}} ", text)
        names = [label for label in re.findall(r'(\w+)="', labels[1]) if label != "le"] if labels else []
        rows.append(f"| `{name}` | {kind} | {', '.join(names)} | {help} |")
    return sorted(rows)


def store_until(server, stop):
    """As fast as it can, more than fits into 8 MiB."""
    batches = [b"".join(b"set key%d 0 0 400 noreply\r\n%s\r\n" % (number, b"v" * 400) for number in range(first, first + 2000)) + b"mn\r\n"
               for first in range(0, 60000, 2000)]
    peer = server.connect()
    while not stop.is_set():
        for batch in batches:
            peer.send(batch)
            peer.read(len(b"MN\r\n"))
    peer.close()


def latency_counts(metrics):
    """Requests in the histograms, by class."""
    return {kind: metrics[f'ebb_request_duration_seconds_count{{class="{kind}"}}']
            for kind in ("get", "set", "delete", "incr", "touch", "other")}


def latency_counts_soon(server, wanted, before=None):
    """What was counted beyond before. A request is counted once its reply has been sent, so whoever has the reply may be
    early: then we look again for a while."""
    end = time.monotonic() + 30
    while True:
        now = latency_counts(server.metrics())
        counts = {kind: now[kind] - (before[kind] if before else 0) for kind in now}
        if counts == wanted or time.monotonic() > end:
            return counts
        time.sleep(0.02)


# memcached_exporter's, as far as they mean something here, with the labels it gives them.
EXPORTER = """up uptime_seconds version{version} current_bytes limit_bytes current_items items_total items_evicted_total
    items_reclaimed_total read_bytes_total written_bytes_total current_connections max_connections connections_total
    connections_rejected_total connections_yielded_total connections_listener_disabled_total accepting_connections
    malloced_bytes process_user_cpu_seconds_total process_system_cpu_seconds_total
    slab_current_items{slab} slab_current_pages{slab} slab_mem_requested_bytes{slab} slab_items_evicted_total{slab}
    slab_items_evicted_unfetched_total{slab} slab_items_expired_unfetched_total{slab} slab_items_reclaimed_total{slab}
    slab_items_evicted_nonzero_total{slab} slab_items_evicted_time_seconds{slab} slab_items_age_seconds{slab}
    slab_items_outofmemory_total{slab} slab_commands_total{slab,command,status} time_seconds commands_total{command,status}""".split()
EXPORTER_COMMANDS = {"get": {"hit", "miss"}, "set": {"hit"}, "delete": {"hit", "miss"}, "incr": {"hit", "miss"}, "decr": {"hit", "miss"},
                     "cas": {"hit", "miss", "badval"}, "touch": {"hit", "miss"}, "flush": {"hit"}}


class Metrics(unittest.TestCase):
    def test_promtool_finds_no_fault(self):
        with Server.ebbd(admin=True) as server:
            work(server)
            kind, text = scrape(server, "*/*")
            self.assertEqual(kind, "text/plain; version=0.0.4; charset=utf-8")
            checked = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
            self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, "", ""))

    def test_the_reference_has_each_metric_and_no_other(self):
        with Server.ebbd(admin=True) as server:
            text = scrape(server, "*/*")[1]
        with open(os.path.join(DOCS, "metrics.md")) as file:
            told = [line for line in file.read().splitlines() if line.startswith("| `")]
        self.assertEqual(told, reference(text), "the right rows:\n" + "\n".join(reference(text)))

    def test_metrics_named_in_the_documents_exist(self):
        with Server.ebbd(admin=True) as server:
            known = set(re.findall(r"(?m)^# TYPE (\S+)", scrape(server, "*/*")[1]))
        named = set()
        for path in ("guide.md", "../README.md", *glob.glob("../deploy/**/*.md", root_dir=DOCS, recursive=True)):
            with open(os.path.join(DOCS, path)) as file:
                named |= set(re.findall(r"`((?:ebb|memcached|process)_[a-z_]+?)(?:\{[^`]*)?`", file.read()))
        self.assertGreater(len(named), 10)
        self.assertEqual(named - known, set())

    def test_names_and_labels_are_those_of_memcached_exporter(self):
        with Server.ebbd(admin=True) as server:
            work(server)
            before = time.time()
            metrics = server.metrics()
        told = {re.sub(r'="[^"]*"', "", name) for name in metrics}
        self.assertEqual([name for name in EXPORTER if "memcached_" + name not in told], [])
        pairs = [re.match(r'memcached_commands_total\{command="(\w+)",status="(\w+)"\}$', name) for name in metrics]
        self.assertEqual({(pair[1], pair[2]) for pair in pairs if pair},
                         {(command, status) for command, all in EXPORTER_COMMANDS.items() for status in all})
        self.assertEqual(metrics['memcached_slab_current_items{slab="1"}'], metrics["memcached_current_items"])
        for command, status in (("get", "hit"), ("set", "hit"), ("cas", "badval"), ("touch", "hit")):
            labels = f'command="{command}",status="{status}"}}'
            self.assertEqual(metrics['memcached_slab_commands_total{slab="1",' + labels], metrics["memcached_commands_total{" + labels])
        self.assertTrue(before <= metrics["memcached_time_seconds"] <= time.time())
        self.assertGreater(metrics["memcached_malloced_bytes"], metrics["memcached_current_bytes"])
        cpu = metrics["memcached_process_user_cpu_seconds_total"] + metrics["memcached_process_system_cpu_seconds_total"]
        self.assertGreater(cpu, 0)

    def test_what_a_scrape_tells_of_the_store_is_of_one_moment(self):
        pairs = (("memcached_current_items", 'memcached_slab_current_items{slab="1"}'), ("memcached_malloced_bytes", "ebb_segment_bytes"),
                 ("memcached_current_bytes", 'memcached_slab_mem_requested_bytes{slab="1"}'),
                 ("memcached_items_evicted_total", 'memcached_slab_items_evicted_total{slab="1"}'))
        with Server.ebbd(admin=True, flags=["-m", "8"]) as server:
            stop = threading.Event()
            client = threading.Thread(target=store_until, args=(server, stop))
            client.start()
            seen, until = set(), time.monotonic() + 60
            try:
                while len(seen) < 30 and time.monotonic() < until:
                    metrics = server.metrics()
                    seen.add(metrics["memcached_items_total"])
                    for one, other in pairs:
                        self.assertEqual(metrics[one], metrics[other], one)
            finally:
                stop.set()
                client.join()
        self.assertEqual(len(seen), 30)

    def test_openmetrics_is_parsed_and_says_the_same(self):
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
        with Server.ebbd(admin=True) as server:
            work(server)
            kind, text = scrape(server, ACCEPT_OPENMETRICS)
            self.assertEqual(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8")
            families = {family.name: family for family in text_string_to_metric_families(text)}
            _, old = scrape(server, "text/plain")
            counters = {line.split()[2] for line in old.splitlines()
                        if line.startswith("# TYPE") and line.endswith(" counter")}
            self.assertGreater(len(counters), 20)
            for name in counters:
                self.assertEqual(families[name.removesuffix("_total")].type, "counter", name)
            commands = {tuple(sorted(sample.labels.items())): sample.value
                        for sample in families["memcached_commands"].samples}
            self.assertEqual(commands[(("command", "get"), ("status", "hit"))], 200)
            self.assertEqual(commands[(("command", "get"), ("status", "miss"))], 200)

    def test_the_format_is_that_which_is_wanted_most(self):
        prometheus, openmetrics = "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"
        with Server.ebbd(admin=True) as server:
            for accept, wanted in ((prometheus, "text/plain"), ("*/*", "text/plain"), (openmetrics, "application/openmetrics-text"),
                                   (f"{openmetrics};q=0.6,{prometheus};q=0.5,*/*;q=0.1", "application/openmetrics-text"),
                                   (f"{openmetrics}; q=0.2, {prometheus}; q=0.9", "text/plain"),
                                   (f"{openmetrics};q=0", "text/plain"), (f"{openmetrics};q=0,*/*", "text/plain"),
                                   ("Application/OpenMetrics-Text", "application/openmetrics-text")):
                self.assertEqual(scrape(server, accept)[0].split(";")[0], wanted, accept)

    def test_latency_of_every_request_when_asked_for(self):
        with Server.ebbd(admin=True, flags=["--latency-sample", "1"]) as server:
            work(server)
            wanted = {"get": 400, "set": 201, "delete": 1, "incr": 1, "touch": 1, "other": 1}
            self.assertEqual(latency_counts_soon(server, wanted), wanted)
            metrics = server.metrics()
            busy = sum(value for name, value in metrics.items() if name.startswith("ebb_worker_busy_seconds_total"))
            self.assertGreater(busy, 0)
            requests = sum(value for name, value in metrics.items() if name.startswith("ebb_worker_requests_total"))
            self.assertGreaterEqual(requests, 604)

    def test_pipelined_requests_are_each_of_their_own_class(self):
        lines = (b"set a 0 0 1\r\n1\r\n", b"ms b 2\r\nxx\r\n", b"get a\r\n", b"get a b\r\n", b"mg b v\r\n", b"gat 0 a\r\n",
                 b"incr a 1\r\n", b"ma a\r\n", b"touch a 9\r\n", b"delete a\r\n", b"md b\r\n", b"nonsense\r\n", b"set c 0 0 9999999\r\n")
        wanted = {"get": 3, "set": 3, "touch": 2, "incr": 2, "delete": 2, "other": 2}
        with Server.ebbd(admin=True, flags=["--latency-sample", "1"]) as server:
            before = latency_counts(server.metrics())
            peer = server.connect()
            peer.send(b"".join(lines) + b"x" * 9999999 + b"\r\nversion\r\n")
            while not peer.line().startswith(b"VERSION"):
                pass
            peer.close()
            self.assertEqual(latency_counts_soon(server, wanted, before), wanted)

    def test_a_block_that_comes_in_pieces_is_one_request(self):
        with Server.ebbd(admin=True, flags=["--latency-sample", "1"]) as server:
            peer = server.connect()
            peer.send(b"set long 0 0 90000\r\n")
            for _ in range(9):
                peer.send(b"x" * 10000)
                time.sleep(0.01)
            self.assertEqual(peer.ask(b""), b"STORED")
            peer.close()
            self.assertEqual(latency_counts(server.metrics())["set"], 1)

    def test_an_answer_of_several_sends_is_one_request(self):
        with Server.ebbd(admin=True, flags=["--latency-sample", "1"]) as server:
            peer = server.connect()
            peer.set(b"large", b"x" * 100_000)
            peer.send(b"get large\r\n" * 40)
            peer.read(40 * len(b"VALUE large 0 100000\r\n" + b"x" * 100_000 + b"\r\nEND\r\n"))
            peer.close()
            self.assertEqual(latency_counts(server.metrics())["get"], 40)

    def test_a_sample_stands_for_all_requests(self):
        with Server.ebbd(admin=True) as server:
            peers = [server.connect() for _ in range(8)]
            count = 0
            for number in range(1000):
                for depth, peer in enumerate(peers):  # each turn pipelines another number of requests
                    peer.send(b"get absent\r\n" * (depth + 1))
                    count += depth + 1
                for depth, peer in enumerate(peers):
                    peer.read((depth + 1) * len(b"END\r\n"))
            for peer in peers:
                peer.close()
            told = latency_counts(server.metrics())["get"]
            self.assertNotEqual(told, 0)
            self.assertLess(abs(told / count - 1), 0.2)  # six times its standard deviation

    def test_requests_over_udp_are_timed_too(self):
        with Server.ebbd(admin=True, flags=["--latency-sample", "1", "-U", str(free_port())]) as server:
            before = latency_counts(server.metrics())
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.settimeout(30)
                peer.connect(("127.0.0.1", int(server.flags[-1])))
                for number in range(20):
                    peer.send(b"\0\1\0\0\0\1\0\0set a 0 0 1\r\nx\r\nget a\r\n")
                    peer.recv(2000)
            after = latency_counts(server.metrics())
            self.assertEqual({kind: after[kind] - before[kind] for kind in ("get", "set")}, {"get": 20, "set": 20})

    def test_without_samples_no_latency_is_measured(self):
        with Server.ebbd(admin=True, flags=["--latency-sample", "0"]) as server:
            work(server)
            metrics = server.metrics()
            self.assertEqual(metrics['ebb_request_duration_seconds_count{class="get"}'], 0)
            self.assertEqual(metrics['ebb_worker_busy_seconds_total{worker="0"}'], 0)

    def test_a_thousand_scrapes_allocate_nothing_that_stays(self):
        with Server.ebbd(admin=True, flags=["-m", "16"]) as server:
            work(server)
            for _ in range(50):
                server.metrics()
            before = server.rss_bytes()
            for _ in range(300):
                server.metrics()
            self.assertLess(server.rss_bytes() - before, 4 << 20)

    def test_status_adds_up(self):
        with Server.ebbd(admin=True) as server:
            work(server)
            status = json.loads(server.page("/debug/status"))
            self.assertEqual(status["requests"]["get_hits_total"], 200)
            self.assertAlmostEqual(status["requests"]["hit_ratio"], 0.5)
            self.assertEqual(status["cache"]["items"], 200)
            memory = status["memory"]
            self.assertEqual(memory["limit_bytes"], 64 << 20)
            parts = ("segments_live_bytes", "segments_dead_bytes", "segments_dropped_bytes", "index_bytes",
                     "connections_bytes", "other_heap_bytes", "free_heap_bytes")
            self.assertAlmostEqual(sum(memory[part] for part in parts), status["heap"]["size_bytes"], delta=2 << 20)
            self.assertEqual(sum(status["latency"]["get"]["buckets"]), status["latency"]["get"]["count"])
            self.assertEqual(len(status["latency"]["get"]["buckets"]), len(status["bucket_bounds_seconds"]) + 1)
            self.assertEqual([alarm["alarm"] for alarm in status["alarms"] if alarm["raised"]], [])


class Attacked(unittest.TestCase):
    def test_half_requests_byte_by_byte_keep_nobody_out(self):
        with Server.ebbd(admin=True) as server:
            halves = [socket.create_connection(("127.0.0.1", server.admin_port)) for _ in range(100)]
            over = threading.Event()

            def trickle():
                while not over.wait(0.2):
                    for half in halves:
                        with contextlib.suppress(OSError):
                            half.send(b"GET /healthz"[:1], socket.MSG_NOSIGNAL)
            trickling = threading.Thread(target=trickle)
            trickling.start()
            try:
                self.assertEqual(server.page("/healthz"), "ok\n")
            finally:
                over.set()
                trickling.join()
                for half in halves:
                    half.close()

    def test_readers_that_take_no_answer_keep_nobody_out(self):
        with Server.ebbd(admin=True) as server:
            peers = []
            for _ in range(40):
                peer = socket.socket()
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                peer.connect(("127.0.0.1", server.admin_port))
                peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                peers.append(peer)
            before = len(server.metrics())
            client = server.connect()
            self.assertEqual(client.set(b"key", b"value"), b"STORED")
            client.close()
            self.assertEqual(len(server.metrics()), before)
            for peer in peers:
                peer.close()


class Scraped(unittest.TestCase):
    """A real Prometheus."""

    def query(self, text):
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": text})
        with urllib.request.urlopen(url, timeout=30) as reply:
            return [float(row["value"][1]) for row in json.load(reply)["data"]["result"]]

    def wait_for(self, text, wanted):
        until = time.monotonic() + PROMETHEUS_SECONDS_MAX
        found = []
        while time.monotonic() < until:
            try:
                found = self.query(text)
                if found and wanted(found):
                    return found
            except OSError:
                pass
            time.sleep(0.1)
        self.fail(f"{text}: {found}")

    def test_prometheus_scrapes_and_answers(self):
        folder = tempfile.mkdtemp(prefix="prometheus-", dir=os.environ.get("EBB_TEST_DIR"))
        self.addCleanup(shutil.rmtree, folder)
        with Server.ebbd(admin=True) as server:
            config = os.path.join(folder, "prometheus.yml")
            rules = os.path.join(os.environ["EBB_SOURCE"], "deploy/prometheus/ebb.rules.yml")
            with open(config, "w") as file:
                file.write(f"global: {{scrape_interval: 500ms, evaluation_interval: 1s}}\nrule_files: ['{rules}']\n"
                           "scrape_configs:\n- job_name: ebb\n  static_configs:\n"
                           f"  - targets: ['127.0.0.1:{server.admin_port}']\n")
            self.port = free_port()
            prometheus = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(f"{folder}/stderr", "w"), cwd=folder)
            try:
                self.wait_for('up{job="ebb"}', lambda found: found == [1])
                work(server)
                hits = self.wait_for('memcached_commands_total{command="get",status="hit"}',
                                     lambda found: found == [200])
                self.assertEqual(hits, [200])
                self.assertEqual(self.query("memcached_current_items"), [201 - 1])
                ratio = self.wait_for('sum(rate(memcached_commands_total{command="get",status="hit"}[1m])) / '
                                      'sum(rate(memcached_commands_total{command="get"}[1m]))',
                                      lambda found: 0 <= found[0] <= 1)
                self.assertEqual(ratio, [0.5])
                self.wait_for('histogram_quantile(0.99, sum by (le) (rate(ebb_request_duration_seconds_bucket[1m])))',
                              lambda found: 0 < found[0] < 10)
                # Those two can be the machine's doing: a process that is not let run stands still.
                self.assertEqual(self.query('count(ebb_alarm{alarm!~"loop_stalled|pauses_long"} == 1) or vector(0)'), [0])
            finally:
                prometheus.terminate()
                prometheus.wait(30)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
