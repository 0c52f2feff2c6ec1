#!/usr/bin/python3
"""What the daemon tells of its heap, opened by the tools that people open it with: jq-like readers, google-pprof, go tool pprof, memlab."""
import contextlib
import csv
import glob
import http.client
import io
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import time
import unittest
import urllib.error
import urllib.request

from servers import EBBD, Server, npm_folder, test_folder

MEMLAB = "@memlab/heap-analysis@2.0.5"
NODE_FIELDS, EDGE_FIELDS = 7, 3
PATIENCE_SECONDS = 30
TRIES = 1000
PIPE_BYTES = 64 * 1024
HERE = os.path.dirname(os.path.abspath(__file__))
TRACE_COLUMNS = {"time", "collection", "cause", "pause_ns", "stop_ns", "mark_ns", "pause_cpu_ns", "sweep_ns", "heap_bytes",
                 "live_bytes", "free_bytes", "unmapped_bytes", "unmanaged_bytes", "rss_bytes", "allocated_since_bytes",
                 "finalized", "leaks"}


def ask(server, path, accept=None, post=False):
    """(status, body) of a request to the admin address."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.admin_port}{path}", data=b"" if post else None)
    if accept:
        request.add_header("Accept", accept)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(holds):
    end = time.monotonic() + PATIENCE_SECONDS
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.05)
    return held  # and not whether it holds once more


def copies_of(server):
    with open(f"/proc/{server.pid}/task/{server.pid}/children") as file:
        return [int(copy) for copy in file.read().split()]


class Copies(unittest.TestCase):
    """The forked copy that looks at the heap: what it may cost, and whom the kernel ends first."""

    def limit_address_space(self, server, more):
        with open(f"/proc/{server.pid}/statm") as file:
            now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.prlimit(server.pid, resource.RLIMIT_AS, (now + more if more is not None else resource.RLIM_INFINITY, -1))

    def test_a_snapshot_needs_as_much_room_as_there_are_objects_and_says_so_when_there_is_none(self):
        with Server.ebbd(flags=["-m", "16"], admin=True) as server:
            self.assertEqual(ask(server, "/debug/growth", post=True)[0], 200)
            self.limit_address_space(server, 48 << 20)
            status, text = ask(server, "/debug/heap.heapsnapshot")
            self.assertEqual(status, 200, text)
            json.loads(text)
            self.limit_address_space(server, 0)
            for page in "/debug/heap.heapsnapshot", "/debug/growth":
                status, text = ask(server, page)
                self.assertEqual((status, text[:4]), (503, "503:"), text)
                self.assertIn("ulimit -v", text)
            os.kill(server.pid, signal.SIGUSR2)
            self.assertTrue(until(lambda: "no snapshot in " in server.stderr()), server.stderr())
            self.assertIn("ulimit -v", server.stderr())
            self.assertEqual(glob.glob(os.path.join(server.folder, "*.heapsnapshot")), [])
            self.limit_address_space(server, None)
            self.assertEqual(ask(server, "/debug/heap.heapsnapshot")[0], 200)

    def second_is_refused_while_the_first_stands(self, server):
        """Stops the copy of a first snapshot, when it is caught in time, and asks for a second one."""
        reader = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(reader):
            reader.request("GET", "/debug/heap.heapsnapshot")
            copies = []
            while not copies and not select.select([reader.sock], [], [], 0)[0]:
                copies = copies_of(server)
            for copy in copies:
                os.kill(copy, signal.SIGSTOP)
            try:
                with open(f"/proc/{copies[0]}/oom_score_adj") as file:
                    adjusted = file.read().strip()
                other = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=PATIENCE_SECONDS)
                with contextlib.closing(other):
                    other.request("GET", "/debug/growth")
                    reply = other.getresponse()
                    refused = reply.status == 503 and int(reply.headers["Retry-After"]) > 0
            except (IndexError, ProcessLookupError, FileNotFoundError):
                return False
            finally:
                for copy in copies:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(copy, signal.SIGCONT)
            reply = reader.getresponse()
            json.loads(reply.read())
            return refused and adjusted == "1000" and reply.status == 200

    def test_there_is_one_at_a_time_and_the_kernel_ends_it_before_the_daemon(self):
        with Server.ebbd(flags=["-m", "16"], admin=True) as server:
            self.assertEqual(ask(server, "/debug/growth", post=True)[0], 200)
            with open(f"/proc/{server.pid}/oom_score_adj") as file:
                before = file.read()
            self.assertTrue(any(self.second_is_refused_while_the_first_stands(server) for _ in range(TRIES)))
            with open(f"/proc/{server.pid}/oom_score_adj") as file:
                self.assertEqual(file.read(), before)

    def test_a_copy_that_may_not_fit_the_bound_is_not_made(self):
        with Server.ebbd(flags=["-m", "40", "--memory-max", "80m"], admin=True) as server:
            self.assertEqual(ask(server, "/debug/heap.heapsnapshot")[0], 200)
            peer = server.connect()
            for number in range(40):
                self.assertEqual(peer.set(b"large%d" % number, b"v" * 1000000), b"STORED")
            status, text = ask(server, "/debug/heap.heapsnapshot")
            self.assertEqual(status, 503, text)
            self.assertIn("bound of 80 MiB", text)
            os.kill(server.pid, signal.SIGUSR2)
            self.assertTrue(until(lambda: "no snapshot in " in server.stderr()), server.stderr())
            self.assertEqual(ask(server, "/healthz")[0], 200)
            peer.close()


class TraceFile(unittest.TestCase):
    """The heap trace's file, when the system refuses what it needs for a while."""

    def start(self, make=None):
        folder = test_folder("trace")
        if make:
            path = os.path.join(folder, "trace.csv")
            make(path)
            self.reader = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
            self.addCleanup(self.reader.close)
        with open(os.path.join(folder, "quick.conf"), "w") as file:
            file.write("heap_trace_interval_ms = 10\n")
        return Server.ebbd(flags=["--heap-trace", "trace.csv", "--heap-trace-size", "4k", "--gc-profile", "./quick.conf"],
                           folder=folder)

    def told_once_each(self, server):
        self.assertEqual([server.stderr().count(text) for text in ("cannot be written: ", " goes on; ")], [1, 1])

    def test_a_trace_that_had_no_descriptor_to_rotate_goes_on(self):
        with self.start() as server:
            before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, before[1]))
            self.assertTrue(until(lambda: "trace.csv cannot be written: " in server.stderr()), server.stderr())
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
            self.assertTrue(until(lambda: "trace.csv goes on; " in server.stderr()), server.stderr())
            self.told_once_each(server)
            with open(os.path.join(server.folder, "trace.csv")) as file:
                self.assertLessEqual(TRACE_COLUMNS, set(file.readline().rstrip().split(",")))

    def test_a_trace_whose_reader_did_not_read_goes_on(self):
        with self.start(os.mkfifo) as server:
            self.assertTrue(until(lambda: "trace.csv cannot be written: " in server.stderr()), server.stderr())
            rows = self.reader.read(PIPE_BYTES)
            self.assertTrue(until(lambda: "trace.csv goes on; " in server.stderr()), server.stderr())
            self.told_once_each(server)
            self.assertTrue(rows.startswith(b"time,"), rows[:100])


class Heap(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server.ebbd(flags=["-m", "64", "-vv", "--heap-trace", "trace.csv", "--heap-trace-size", "4k",
                                        "--leak-report", "leaks"], admin=True)
        peer = cls.server.connect()
        for number in range(3000):
            assert peer.set(b"key%d" % number, b"v" * 1000) == b"STORED"
        peer.close()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        with open(os.path.join(cls.server.folder, "leaks.json")) as file:
            assert json.load(file)["leaked_objects"] == 0
        with open(os.path.join(cls.server.folder, "leaks")) as file:
            assert file.read().startswith("0 objects leaked since start")

    def test_the_census_is_json_and_text_and_adds_up(self):
        status, body = ask(self.server, "/debug/heap?gc=1", "application/json")
        self.assertEqual(status, 200)
        heap = json.loads(body)
        cells = sum(row["cell_bytes"] for row in heap["types"])
        self.assertEqual(heap["types_bytes"], cells)
        self.assertEqual(heap["heap_bytes"],
                         heap["types_bytes"] + heap["other_bytes"] + heap["slack_bytes"] + heap["free_bytes"])
        self.assertEqual(heap["rss_bytes"], heap["rss_heap_bytes"] + heap["unmanaged_bytes"])
        with open(f"/proc/{self.server.pid}/statm") as file:
            rss = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.assertAlmostEqual(heap["rss_bytes"], rss, delta=rss * 0.02)
        held = {row["type"]: row for row in heap["types"]}
        self.assertGreater(held["segment"]["bytes"], 3000 * 1000)
        self.assertGreater(held["libevent"]["objects"], 10)
        status, body = ask(self.server, "/debug/heap")
        self.assertEqual(status, 200)
        self.assertIn("libevent's own memory", body)
        self.assertEqual(ask(self.server, "/debug/heap?format=xml")[0], 400)

    def test_no_page_answers_what_it_does_not_know(self):
        pages = [page["path"] for page in json.loads(ask(self.server, "/debug?format=json")[1])["pages"]]
        self.assertGreater(len(pages), 15)
        for path in pages:
            status, body = ask(self.server, f"{path}?formats=json")
            self.assertEqual((path, status), (path, 400))
            self.assertIn("no parameter formats; it takes", body)
        for path in ("/debug/heap?gc=2", "/debug/pprof/heap?gc=yes", "/debug/pprof/heap?seconds=-1", "/debug?format=xml",
                     "/debug/trace?seconds=-1", "/debug/trace?seconds=99999999999999999999", "/debug/heap?format=json&x=1"):
            self.assertEqual((path, ask(self.server, path)[0]), (path, 400))
        for path in ("/debug/heap?format=json&format=json", "/debug/heap?format=text&gc=1&format=json"):
            self.assertEqual(ask(self.server, path), (400, "400: the parameter format is given more than once\n"))
        self.assertEqual(ask(self.server, "/debug/heap?gc=0&format=json")[0], 200)
        for query in ("?", "?&", "?&&gc=0&&format=json&"):
            self.assertEqual((query, ask(self.server, "/debug/heap" + query)[0]), (query, 200))
        for query in ("?verbose", "?gc=0&verbose", "?&verbose&&gc=0"):  # a name alone is an empty value
            status, body = ask(self.server, "/debug/heap" + query)
            self.assertEqual((query, status), (query, 400))
            self.assertIn("no parameter verbose; it takes", body)
        for query in ("?" + "&".join("a" * 400), "?" + "x" * 3000):
            self.assertEqual(ask(self.server, "/debug/heap" + query)[0], 400)

    def test_the_trace_is_json_and_csv_and_rotates(self):
        ask(self.server, "/debug/leaks", post=True)  # collects
        path = os.path.join(self.server.folder, "trace.csv")
        self.assertTrue(until(lambda: "demand" in ask(self.server, "/debug/heap-trace")[1]))
        rows = json.loads(ask(self.server, "/debug/heap-trace?format=json")[1])["rows"]
        self.assertTrue(TRACE_COLUMNS <= set(rows[-1]))
        self.assertIn("demand", {row["cause"] for row in rows})
        table = list(csv.DictReader(io.StringIO(ask(self.server, "/debug/heap-trace?format=csv")[1])))
        self.assertTrue(TRACE_COLUMNS <= set(table[-1]))
        for _ in range(8):
            ask(self.server, "/debug/leaks", post=True)
        self.assertTrue(until(lambda: os.path.exists(path + ".1")))
        self.assertLess(os.path.getsize(path), 8192)
        with open(path + ".1") as file:
            self.assertTrue(TRACE_COLUMNS <= set(next(csv.reader(file))))
        self.assertRegex(self.server.stderr(), r"gc \d+ demand: pause [\d.]+ ms, mark")

    def test_both_pprofs_name_who_allocated(self):
        path = os.path.join(self.server.folder, "profile")
        with open(path, "w") as file:
            file.write(ask(self.server, "/debug/pprof/heap?gc=1")[1])

        def told(*command):
            return subprocess.run([*command, EBBD, path], capture_output=True, text=True, timeout=120, check=True,
                                  env={**os.environ, "HOME": self.server.folder}).stdout

        by_google = told("google-pprof", "--text")
        self.assertIn("server_open", by_google)
        self.assertRegex(by_google, r"Total: [1-9][\d.]* MB")
        self.assertRegex(told("go", "tool", "pprof", "-top"), r"[\d.]+[kM]B .*server_open")
        self.assertRegex(told("go", "tool", "pprof", "-list", "^server_open$"), r"server\.c[^#]*[\d.]+[kM]B .*ebb_new")

    def test_both_pprofs_get_profile_and_names_from_the_daemon_alone(self):
        page = f"http://127.0.0.1:{self.server.admin_port}/debug/pprof/heap"
        for command in ("google-pprof", "--text"), ("go", "tool", "pprof", "-symbolize=remote", "-top"):
            told = subprocess.run([*command, page], capture_output=True, text=True, timeout=120,
                                  env={**os.environ, "HOME": self.server.folder, "PPROF_TMPDIR": self.server.folder})
            self.assertRegex(told.stdout, r"[\d.]+(kB|MB)? .*server_open", told.stderr)
        self.assertEqual(ask(self.server, "/debug/pprof/symbol"), (200, "num_symbols: 1\n"))

        def names(addresses):
            request = urllib.request.Request(page.replace("heap", "symbol"), data=addresses)
            with urllib.request.urlopen(request, timeout=120) as reply:
                return reply.read()

        self.assertEqual(names(b""), b"")
        self.assertEqual(names(b"0x1+0xffffffffffffffffffff"), b"")
        for bad in b"+", b"0x1++0x2", b"-1", b"0x1 0x2", b"main", b"0x1;0x2", b"\xff" * 60000:
            with self.assertRaises(urllib.error.HTTPError) as refused:
                names(bad)
            self.assertEqual((refused.exception.code, refused.exception.read()[:4]), (400, b"400:"), bad)

    def read_snapshot(self, path):
        """Holds the format to its rules; returns the snapshot."""
        with open(path) as file:
            snapshot = json.load(file)
        nodes, edges, strings = snapshot["nodes"], snapshot["edges"], snapshot["strings"]
        self.assertEqual(len(nodes), snapshot["snapshot"]["node_count"] * NODE_FIELDS)
        self.assertEqual(len(edges), snapshot["snapshot"]["edge_count"] * EDGE_FIELDS)
        self.assertEqual(sum(nodes[4::NODE_FIELDS]) * EDGE_FIELDS, len(edges))
        self.assertLess(max(nodes[1::NODE_FIELDS]), len(strings))
        self.assertEqual(len(set(nodes[2::NODE_FIELDS])), snapshot["snapshot"]["node_count"])
        for target in edges[2::EDGE_FIELDS]:
            self.assertTrue(target % NODE_FIELDS == 0 and target < len(nodes))
        return snapshot

    def test_a_snapshot_larger_than_a_pipe_is_whole_or_visibly_not(self):
        with contextlib.ExitStack() as peers:
            for _ in range(900):
                peers.enter_context(self.server.connect().sock)
            path = os.path.join(self.server.folder, "large.heapsnapshot")
            for _ in range(5):
                with open(path, "w") as file:
                    file.write(ask(self.server, "/debug/heap.heapsnapshot")[1])
                self.read_snapshot(path)
            self.assertGreater(os.path.getsize(path), 3 * PIPE_BYTES)
            self.assertTrue(until(self.is_cut_when_its_copy_is_killed))

    def is_cut_when_its_copy_is_killed(self):
        """Whether a snapshot ended before its end; it may be whole before its copy is caught."""
        reader = http.client.HTTPConnection("127.0.0.1", self.server.admin_port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(reader):
            reader.request("GET", "/debug/heap.heapsnapshot")
            select.select([reader.sock], [], [], PATIENCE_SECONDS)  # it has begun
            for copy in copies_of(self.server):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(copy, signal.SIGKILL)
            try:
                reader.getresponse().read()
                return False
            except (http.client.HTTPException, ConnectionError):
                return True

    def test_memlab_reads_the_snapshot_with_retained_sizes_and_paths(self):
        # Connections of earlier tests that are still open hold the workers, too.
        self.assertTrue(until(lambda: self.server.metrics()["memcached_current_connections"] == 0))
        path = os.path.join(self.server.folder, "s.heapsnapshot")
        with open(path, "w") as file:
            file.write(ask(self.server, "/debug/heap.heapsnapshot")[1])
        strings = self.read_snapshot(path)["strings"]
        self.assertTrue([text for text in strings if text.startswith("listener ")], "no resource")
        folder = npm_folder(MEMLAB)
        shutil.copy(os.path.join(HERE, "snapshot.js"), folder)
        told = subprocess.run(["node", "snapshot.js", path], cwd=folder, capture_output=True, text=True, timeout=120)
        self.assertEqual(told.returncode, 0, told.stderr)
        found = json.loads(told.stdout.strip().splitlines()[-1])
        self.assertGreater(found["segment"]["retained"], 64 * 1024)
        self.assertGreater(found["server"]["retained"], 64 * 1024)
        self.assertIn("(static variables)", found["segment"]["path"])

    def test_sigusr2_writes_a_snapshot_and_sigusr1_the_census(self):
        os.kill(self.server.pid, signal.SIGUSR2)
        self.assertTrue(until(lambda: "snapshot written to" in self.server.stderr()), self.server.stderr())
        self.read_snapshot(glob.glob(os.path.join(self.server.folder, "ebbd-*.heapsnapshot"))[0])
        os.kill(self.server.pid, signal.SIGUSR1)
        self.assertTrue(until(lambda: "Types are as of the latest collection" in self.server.stderr()))
        self.assertIn("unmanaged: all the rest", self.server.stderr())

    def test_growth_names_the_type_and_what_holds_it(self):
        self.assertTrue(until(lambda: self.server.metrics()["memcached_current_connections"] == 0))
        self.assertEqual(ask(self.server, "/debug/growth", post=True)[0], 200)
        peers = [self.server.connect() for _ in range(20)]
        for peer in peers:
            peer.ask(b"version")
        grew = {row["type"]: row for row in json.loads(ask(self.server, "/debug/growth", "application/json")[1])["grew"]}
        self.assertEqual(grew["conn"]["after"] - grew["conn"]["before"], 20)
        self.assertIn("-> conn", grew["conn"]["held_by"])
        for peer in peers:
            peer.close()

    def test_a_peer_that_leaves_during_a_snapshot_leaves_nothing_behind(self):
        peer = socket.create_connection(("127.0.0.1", self.server.admin_port), PATIENCE_SECONDS)
        peer.sendall(b"GET /debug/heap.heapsnapshot HTTP/1.1\r\nHost: x\r\n\r\n")
        peer.close()
        self.assertTrue(until(lambda: ask(self.server, "/debug/heap.heapsnapshot")[0] == 200))
        children = subprocess.run(["ps", "-o", "stat=", "--ppid", str(self.server.pid)], capture_output=True, text=True)
        self.assertEqual(children.stdout.strip(), "")


if __name__ == "__main__":
    unittest.main()
