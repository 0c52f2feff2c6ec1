#!/usr/bin/python3
"""Memory goes back when it is wanted: under pressure, at a bound, after a flush, a mass delete, a mass expiry and a
lower limit; and a limit that cannot be kept is refused at once."""
import base64
import csv
import http.client
import json
import os
import re
import resource
import socket
import subprocess
import time
import unittest

from servers import EBBD, SOURCE, Server, ServerError, scaled, test_folder

MIB = 1 << 20
WAIT_SECONDS_MAX = 20
SANITIZED = bool(os.environ.get("EBB_SANITIZED"))


def fill(peer, mib, ttl=0, prefix=b"k", sizes=(1000,)):
    """Stores about so many MiB of values of these sizes, in turn; returns how many keys."""
    count = mib * MIB * len(sizes) // sum(size + 100 for size in sizes)
    values = [b"%d noreply\r\n%s\r\n" % (size, b"v" * size) for size in sizes]
    batch = min(2000, 4 * MIB // max(sizes))
    for start in range(0, count, batch):
        end = min(start + batch, count)
        peer.send(b"".join(b"set %s%d 0 %d %s" % (prefix, i, ttl, values[i % len(sizes)]) for i in range(start, end)))
    if not peer.ask(b"version").startswith(b"VERSION"):
        raise ServerError("fill: no answer")
    return count


def wait_for(condition, what):
    until = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(what() if callable(what) else what)
        time.sleep(0.05)


def stand_in(version, hard=None, soft=None):
    """A folder with the files of a machine of 64 GiB whose cgroup has limits; returns it and the cgroup's folder."""
    root = test_folder("root")
    group = os.path.join(root, "sys/fs/cgroup" + ("/memory" if version == 1 else ""), "box/service")
    for folder in (group, os.path.join(root, "proc/self"), os.path.join(root, "proc/pressure")):
        os.makedirs(folder)

    def write(path, text):
        with open(os.path.join(root, path), "w") as file:
            file.write(text)

    write("proc/meminfo", "MemTotal:       67108864 kB\nMemFree: 1 kB\n")
    if version == 1:
        write("proc/self/cgroup", "5:cpu:/\n4:memory:/box/service\n0::/\n")
        write(os.path.join(group, "memory.limit_in_bytes"), f"{hard or 9223372036854771712}\n")
        write(os.path.join(group, "memory.usage_in_bytes"), "0\n")
        write(os.path.join(group, "memory.failcnt"), "0\n")
    else:
        write("proc/self/cgroup", "0::/box/service\n")
        write(os.path.join(group, "memory.max"), "max\n")
        write(os.path.join(group, "memory.high"), f"{soft or 'max'}\n")
        write(os.path.join(group, "memory.current"), "0\n")
        write(os.path.join(group, "memory.events"), "low 0\nhigh 0\nmax 0\noom 0\n")
        write(os.path.join(group, "memory.pressure"), "")
        write(os.path.join(os.path.dirname(group), "memory.max"), f"{hard or 'max'}\n")  # the parent's holds too
    return root, group


def refused(*flags):
    """Exit status and sentence of an ebbd that must not start."""
    words = [EBBD, "-l", "127.0.0.1", "-p", "0"] + (["-u", "root"] if os.geteuid() == 0 else []) + list(flags)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


class Limits(unittest.TestCase):
    def test_a_memory_limit_that_does_not_fit_the_cgroup_is_refused(self):
        for version in (1, 2):
            root, _ = stand_in(version, hard=512 * MIB)
            status, text = refused("-m", "600", "--system-root", root)
            self.assertEqual(status, 64, text)
            self.assertRegex(text, r"-m\): 600 MiB do not fit into the 512 MiB that the cgroup .* allows")

    def test_one_that_is_close_to_it_is_warned_of_and_one_that_fits_is_not(self):
        for soft, warned in ((512 * MIB, True), (4096 * MIB, False)):
            root, _ = stand_in(2, hard=4096 * MIB, soft=soft)
            with Server.ebbd(flags=["-m", "500", "--system-root", root]) as server:
                self.assertEqual("are more than 80% of the" in server.stderr(), warned)

    def test_a_bound_that_is_no_size_is_refused(self):
        for word in ("12x", "0%", "101%", "", "1k", "0", "0m", "99999999999999999999"):
            status, text = refused("--memory-max", word)
            self.assertEqual(status, 64, f"{word}: {text}")
            self.assertIn("--memory-max", text)

    def test_auto_is_nine_tenths_of_the_cgroup(self):
        root, _ = stand_in(2, hard=1000 * MIB)
        with Server.ebbd(admin=True, flags=["-m", "4000", "--memory-max", "auto", "--system-root", root]) as server:
            metrics = server.metrics()
            self.assertAlmostEqual(metrics["ebb_memory_bound_bytes"], 900 * MIB, delta=MIB)
            self.assertLess(metrics["ebb_memory_target_bytes"], 900 * MIB)
            self.assertEqual(metrics["memcached_limit_bytes"], metrics["ebb_memory_target_bytes"])


@unittest.skipIf(SANITIZED, "a tenth of the churn fills nothing")
class Churn(unittest.TestCase):
    def churn(self, mib, *phases):
        """Values of changing sizes: the heap but for what is there without a cache, free blocks and garbage included,
        stays within the limit and 2% of it whenever a collection ends: a block that was ever mapped too much is seen,
        for it stays mapped for six collections. And the limit is used."""
        trace = os.path.join(test_folder("churn"), "heap.csv")
        with Server.ebbd(admin=True, flags=["-m", str(mib), "-t", "2", "--heap-trace", trace]) as server:
            peer = server.connect()
            fill(peer, 1)
            memory = json.loads(server.page("/debug/status"))["memory"]
            beside = memory["other_heap_bytes"] + memory["connections_bytes"]
            for number, sizes in enumerate(phases):
                fill(peer, mib * 2, prefix=b"%d-" % number, sizes=sizes)
                live = json.loads(server.page("/debug/status"))["memory"]["segments_live_bytes"]
                print(f"memory: -m {mib}, values of {sizes}: {live / (mib * MIB):.3f} of the limit are items", flush=True)
                self.assertGreater(live, mib * MIB * 0.85)
            self.assertEqual(server.metrics()["ebb_heap_records_lost_total"], 0)
            peer.close()
        with open(trace) as file:
            highest = max(int(row["heap_bytes"]) for row in csv.DictReader(file)) - beside
        print(f"memory: -m {mib}: at most {highest / (mib * MIB):.4f} of the limit", flush=True)
        self.assertLessEqual(highest, mib * MIB * 1.02)

    def test_the_limit_is_the_limit_at_64_mib(self):
        self.churn(64, (100,), (800,), (4096,), (100, 800, 4096))

    def test_values_of_their_own_segments_stay_within_it_too(self):
        """These leave holes that the next ones do not fit in; so here what is resident counts, by the kernel's own high
        water mark. The heap's first MiB is there from the start, but written to later."""
        with Server.ebbd(admin=True, flags=["-m", "64", "-t", "2", "-I", "4m"]) as server:
            peer = server.connect()
            fill(peer, 4, sizes=(3_000_000,))
            empty = server.rss_bytes() - 4 * MIB
            for number, sizes in enumerate(((100,), (300_000,), (100, 50_000, 4096, 1_000_000), (800,),
                                            (100, 20_000, 40_000, 3_000_000))):
                fill(peer, 128, prefix=b"%d-" % number, sizes=sizes)
            print(f"memory: values of 100 B to 3 MB: {server.peak_rss_bytes() / MIB:.1f} MiB resident at most, "
                  f"{empty / MIB:.1f} MiB of them the program", flush=True)
            self.assertLessEqual(server.peak_rss_bytes() - empty, 64 * MIB * 1.02 + MIB)
            peer.close()

    def test_the_limit_is_the_limit_at_256_mib(self):
        self.churn(256, (100,), (800,), (4096,), (100, 800, 4096))


class Pressure(unittest.TestCase):
    def short(self, flags, press, environment=None, then_quiet=False):
        """The target falls by each press, memory is returned, and the log says so."""
        for name, value in (environment or {}).items():
            os.environ[name] = value
        try:
            server = Server.ebbd(admin=True, flags=["-m", "64"] + flags)
        finally:
            for name in environment or {}:
                del os.environ[name]
        with server:
            peer = server.connect()
            fill(peer, 60)
            self.assertEqual(server.metrics()["ebb_memory_target_bytes"], 64 * MIB)
            full = server.rss_bytes()
            targets = [64 * MIB]
            for _ in range(2):
                press()
                wait_for(lambda: server.metrics()["ebb_memory_target_bytes"] < targets[-1], server.stderr)
                targets.append(server.metrics()["ebb_memory_target_bytes"])
                time.sleep(1.1)  # one step a second at most
            self.assertLess(targets[2], 58 * MIB)
            self.assertGreaterEqual(targets[2], 64 * MIB // 8)
            self.assertLessEqual(server.metrics()["memcached_limit_bytes"], targets[2])
            if not SANITIZED:
                wait_for(lambda: server.rss_bytes() < full - 4 * MIB, f"{full} before, now {server.rss_bytes()}")
            metrics = server.metrics()
            self.assertEqual(metrics["ebb_memory_pressure_steps_total"], 2)
            self.assertGreater(metrics["ebb_memory_returned_bytes_total"], MIB)
            self.assertRegex(server.stderr(), r"memory is short \(.*\): cache target 64 -> \d+ MiB, \d+ KiB given back")
            if then_quiet:  # for ten seconds: it grows again, in steps
                wait_for(lambda: server.metrics()["ebb_memory_target_bytes"] > targets[2], server.stderr)
            peer.close()

    def test_a_pipe_named_by_the_service_manager_is_heard(self):
        fifo = os.path.join(test_folder("pressure"), "watch")
        os.mkfifo(fifo)
        keep = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        try:
            self.short([], lambda: os.write(keep, b"x"), {
                "MEMORY_PRESSURE_WATCH": fifo, "MEMORY_PRESSURE_WRITE": base64.b64encode(b"some 1 2\0").decode()})
        finally:
            os.close(keep)

    def test_a_socket_named_by_the_service_manager_is_told_what_to_watch_for(self):
        with socket.socket(socket.AF_UNIX) as manager:
            manager.settimeout(WAIT_SECONDS_MAX)
            manager.bind(os.path.join(test_folder("pressure"), "s"))
            manager.listen()
            with Server.ebbd(environment={"MEMORY_PRESSURE_WATCH": manager.getsockname(),
                                          "MEMORY_PRESSURE_WRITE": base64.b64encode(b"some 1 2\0").decode()}):
                with manager.accept()[0] as told:
                    told.settimeout(WAIT_SECONDS_MAX)
                    self.assertEqual(told.recv(100), b"some 1 2\0")

    def test_the_cgroups_events_are_heard(self):
        root, group = stand_in(2, hard=4096 * MIB)
        events = iter(range(1, 10))

        def press():
            with open(os.path.join(group, "memory.events"), "w") as file:
                file.write(f"low 0\nhigh {next(events)}\nmax 0\noom 0\n")

        self.short(["--system-root", root], press, then_quiet=True)


class Bound(unittest.TestCase):
    @unittest.skipIf(SANITIZED, "a sanitizer's shadow is resident, too")
    def test_the_whole_process_stays_in_its_bound_whatever_grows(self):
        bound = 96 * MIB
        with Server.ebbd(admin=True, flags=["-m", "256", "-t", "2", "--memory-max", str(bound)]) as server:
            peer = server.connect()
            for step in range(4):
                fill(peer, scaled(80), prefix=b"p%d-" % step)
                self.assertLess(server.metrics()["ebb_memory_target_bytes"], bound)
            idle = [server.connect() for _ in range(300)]
            for other in idle:
                other.send(b"set unfinished 0 0 100000\r\n" + b"x" * 50000)  # buffers of half a value
            for step in range(3):
                fill(peer, scaled(40), prefix=b"q%d-" % step)
            highest = server.peak_rss_bytes()
            print(f"memory: bound {bound >> 20} MiB, highest {highest >> 20} MiB, "
                  f"target {int(server.metrics()['ebb_memory_target_bytes']) >> 20} MiB", flush=True)
            self.assertLessEqual(highest, bound)
            self.assertEqual(peer.set(b"still", b"serving"), b"STORED")
            for other in idle + [peer]:
                other.close()

    @unittest.skipIf(SANITIZED, "a sanitizer's shadow is resident, too")
    def test_it_follows_the_cgroup_unless_it_is_given(self):
        root, group = stand_in(2, soft=1000 * MIB)

        def bound_is(mib, metrics):
            return abs(metrics["ebb_memory_bound_bytes"] - mib * MIB) < MIB

        with Server.ebbd(admin=True, flags=["-m", "160", "--system-root", root]) as server:
            peer = server.connect()
            fill(peer, 150)
            self.assertTrue(bound_is(900, server.metrics()))
            for high, bound in ((f"{100 * MIB}", 90), ("max", 0)):
                with open(os.path.join(group, "memory.high"), "w") as file:
                    file.write(high + "\n")
                wait_for(lambda: bound_is(bound, server.metrics()), server.stderr)
                if bound and not SANITIZED:
                    wait_for(lambda: server.rss_bytes() <= bound * MIB, server.stderr)
                wait_for(lambda: (server.metrics()["ebb_memory_target_bytes"] < 160 * MIB) == (bound > 0), server.stderr)
            self.assertIn("allows 100 MiB now: the process is kept within 90 MiB", server.stderr())
            peer.close()
        with Server.ebbd(admin=True, flags=["-m", "64", "--memory-max", "200m", "--system-root", root]) as server:
            with open(os.path.join(group, "memory.high"), "w") as file:
                file.write(f"{100 * MIB}\n")
            time.sleep(2.5)  # two looks
            self.assertTrue(bound_is(200, server.metrics()))

    def test_what_connections_take_at_once_pushes_the_cache_back(self):
        bound = 96 * MIB
        with Server.ebbd(admin=True, flags=["-m", "256", "-t", "4", "-c", "6000", "--memory-max", str(bound)]) as server:
            peer = server.connect()
            fill(peer, 80)
            for line in (b"get " + b"unfinished " * 5500,  # 3,000 times 64 KiB are twice the bound
                         b"get " + b" ".join(b"k%d" % i for i in range(60000, 60100)) + b"\r\n"):
                crowd = [server.connect(receive_buffer=4096) for _ in range(3000)]
                for other in crowd:
                    other.sock.setblocking(False)
                    try:
                        other.sock.send(line)
                    except OSError:  # there was no room for it
                        pass
                for other in crowd:
                    other.close()
            wait_for(lambda: int(peer.stats()["curr_connections"]) < 3, "connections are left")
            print(f"memory: bound {bound >> 20} MiB, highest {server.peak_rss_bytes() >> 20} MiB in a crowd", flush=True)
            self.assertLessEqual(server.peak_rss_bytes(), bound)
            self.assertGreater(server.metrics()["ebb_memory_refused_total"], 0)
            self.assertIn("the process is at its --memory-max of 96 MiB", server.stderr())
            self.assertEqual(peer.set(b"still", b"serving"), b"STORED")
            peer.close()


@unittest.skipIf(SANITIZED, "the sanitizer wants address space of its own")
class Refused(unittest.TestCase):
    """The system gives less memory than -m promises: ulimit -v, LimitAS=, vm.overcommit_memory=2."""

    def test_it_costs_items_and_never_an_answer(self):
        for size in (1000, 100 * 1000, 1000 * 1000):
            with Server.ebbd(flags=["-m", "256"], environment={"MALLOC_ARENA_MAX": "1"}) as server:
                soft, hard = resource.prlimit(server.pid, resource.RLIMIT_AS)
                with open(f"/proc/{server.pid}/statm") as file:
                    mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
                peer = server.connect()
                resource.prlimit(server.pid, resource.RLIMIT_AS, (mapped + 16 * MIB, hard))
                answers = [peer.set(b"key-%d" % i, b"v" * size) for i in range(64 * MIB // size)]
                self.assertLessEqual(set(answers), {b"STORED", b"SERVER_ERROR out of memory storing object"}, size)
                self.assertGreater(int(peer.stats()["evictions"]), 0, size)
                self.assertGreater(answers.count(b"STORED"), len(answers) // 2, size)
                latest = max(i for i, answer in enumerate(answers) if answer == b"STORED")
                self.assertEqual(peer.get(b"key-%d" % latest), b"v" * size)
                resource.prlimit(server.pid, resource.RLIMIT_AS, (soft, hard))
                self.assertEqual({peer.set(b"more-%d" % i, b"v" * size) for i in range(64 * MIB // size)}, {b"STORED"}, size)
                peer.close()


    def test_who_looks_why_gets_a_whole_answer_or_a_clear_refusal(self):
        with Server.ebbd(admin=True, flags=["-m", "256"], environment={"MALLOC_ARENA_MAX": "1"}) as server:
            soft, hard = resource.prlimit(server.pid, resource.RLIMIT_AS)
            with open(f"/proc/{server.pid}/statm") as file:
                mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            peer = server.connect()
            resource.prlimit(server.pid, resource.RLIMIT_AS, (mapped + 16 * MIB, hard))
            pages = ("/metrics", "/debug/heap", "/healthz", "/debug/resources", "/")
            for i in range(24 * MIB // 10000):
                self.assertIn(peer.set(b"key-%d" % i, b"v" * 10000), (b"STORED", b"SERVER_ERROR out of memory storing object"))
                if i % 100 == 0:  # one of each, read at the same time
                    readers = [http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=30) for _ in pages]
                    for reader, page in zip(readers, pages):
                        reader.request("GET", page)
                    for reader in readers:
                        reply = reader.getresponse()  # a status line, and the length that it tells
                        self.assertIn(reply.status, (200, 503))
                        self.assertTrue(reply.read())
                        reader.close()
            resource.prlimit(server.pid, resource.RLIMIT_AS, (soft, hard))
            wait_for(lambda: all(server.page(page) for page in pages), "a page")
            peer.close()


class Announced(unittest.TestCase):
    """A length is no byte: room for it is made as the bytes arrive."""

    LARGE = 30 * MIB

    def test_who_only_announces_pushes_no_item_out(self):
        value = os.urandom(self.LARGE)
        with Server.ebbd(flags=["-m", "128", "-I", "31m", "-t", "2"]) as server:
            peer = server.connect()
            count = fill(peer, 40)
            crowd = [server.connect() for _ in range(scaled(500, 50))]
            for number, other in enumerate(crowd):
                other.send(b"set large%d 0 0 %d\r\n" % (number % 3, len(value)))
                other.send(value[:100])
            crowd[0].send(value[100:20000])  # it goes on, and must not be read as anything else
            stats = peer.stats()
            while int(stats["curr_connections"]) < len(crowd) + 1 or int(stats["bytes_read"]) < count * 1000 + 100 * len(crowd):
                stats = peer.stats()
            self.assertEqual((int(stats["curr_items"]), int(stats["evictions"])), (count, 0))
            # What comes nevertheless is stored whole, however it comes.
            crowd[0].sock.settimeout(60)
            crowd[0].send(value[20000:] + b"\r\nappend large0 0 0 %d\r\n" % 500000 + value[:500000])
            self.assertEqual(crowd[0].line(), b"STORED\r\n")
            crowd[0].send(b"\r\n")
            self.assertEqual(crowd[0].line(), b"STORED\r\n")
            self.assertEqual(peer.get(b"large0"), value + value[:500000])
            crowd[1].send(value[100:] + b"not the end\r\n")
            self.assertEqual(crowd[1].line(), b"CLIENT_ERROR bad data chunk\r\n")
            self.assertIsNone(peer.get(b"large1"))
            for other in crowd + [peer]:
                other.close()

    def test_what_finds_no_memory_on_its_way_is_told_so_behind_its_block(self):
        value = b"v" * self.LARGE
        with Server.ebbd(flags=["-m", "64", "-I", "31m", "-M"]) as server:
            peer = server.connect()
            self.assertEqual(peer.set(b"first", value), b"STORED")
            self.assertEqual(peer.set(b"second", value), b"SERVER_ERROR out of memory storing object")
            self.assertEqual(peer.get(b"first"), value)
            self.assertEqual(peer.ask(b"mn"), b"MN")
            peer.close()


@unittest.skipIf(SANITIZED, "a sanitizer keeps what was freed")
class GivingBack(unittest.TestCase):
    def falls(self, act, ttl=0, mib=120):
        """Fills, acts, and waits: without traffic the process must come down to what it was."""
        with Server.ebbd(admin=True, flags=["-m", "160", "-t", "2"]) as server:
            peer = server.connect()
            at_start = server.rss_bytes()
            count = fill(peer, mib, ttl)
            full = server.rss_bytes()
            self.assertGreater(full - at_start, mib * MIB * 0.7)
            began = time.monotonic()
            act(peer, count)
            wait_for(lambda: server.rss_bytes() - at_start < (full - at_start) * 0.2,
                     lambda: f"start {at_start >> 20}, full {full >> 20}, now {server.rss_bytes() >> 20} MiB\n"
                             + server.page("/debug/heap"))
            print(f"memory: {act.__name__}: {at_start >> 20} -> {full >> 20} -> {server.rss_bytes() >> 20} MiB "
                  f"in {time.monotonic() - began:.1f} s", flush=True)
            peer.close()

    def test_after_flush_all(self):
        def flush_all(peer, _):
            self.assertEqual(peer.ask(b"flush_all"), b"OK")
        self.falls(flush_all)

    def test_after_a_mass_delete(self):
        def mass_delete(peer, count):
            for start in range(0, count, 2000):
                peer.send(b"".join(b"delete k%d noreply\r\n" % i for i in range(start, min(start + 2000, count))))
            self.assertTrue(peer.ask(b"version").startswith(b"VERSION"))
        self.falls(mass_delete)

    def falls_when_closed(self, come):
        """Peers come and hold what is evicted meanwhile. When they have gone it goes back, though nobody evicts any more."""
        with Server.ebbd(admin=True, flags=["-m", "96", "-t", "2"]) as server:
            peer = server.connect()
            at_start = server.rss_bytes()
            crowd = [server.connect(receive_buffer=4096) for _ in range(150)]
            for number, other in enumerate(crowd):
                come(peer, other, number)
            wait_for(lambda: server.rss_bytes() - at_start > 40 * MIB, lambda: f"{server.rss_bytes() >> 20} MiB are held")
            self.assertLess(int(peer.stats()["curr_items"]), 50)  # what they hold is no item any more
            for other in crowd:
                other.close()
            wait_for(lambda: server.rss_bytes() - at_start < 12 * MIB,
                     lambda: f"start {at_start >> 20}, now {server.rss_bytes() >> 20} MiB\n" + server.page("/debug/heap"))
            peer.close()

    def test_after_values_of_which_the_end_never_came(self):
        def half_a_value(_peer, other, number):
            other.sock.setblocking(False)
            other.sock.send(b"set k%d 0 0 900000\r\n" % number + b"x" * 400000)
        self.falls_when_closed(half_a_value)

    def test_after_readers_that_never_read(self):
        def read_nothing(peer, other, number):
            peer.set(b"k%d" % number, b"x" * 900000)
            other.send(b"get k%d\r\n" % number * 4)
            time.sleep(0.005)
        self.falls_when_closed(read_nothing)

    def test_after_lines_of_which_the_end_never_came(self):
        """At once: the collection that comes after some quiet seconds is switched off."""
        profile = os.path.join(test_folder("profile"), "never-idle.conf")
        with open(os.path.join(SOURCE, "gc-config/deploy.conf")) as deploy, open(profile, "w") as file:
            file.write(re.sub(r"(?m)^idle_collect_seconds = .*", "idle_collect_seconds = 0", deploy.read()))
        with Server.ebbd(admin=True, flags=["-m", "64", "-c", "4000", "--gc-profile", profile]) as server:
            peer = server.connect()
            fill(peer, 80)
            full = server.rss_bytes()
            crowd = [server.connect() for _ in range(3000)]
            for other in crowd:
                other.send(b"get " + b"unfinished " * 900)
            wait_for(lambda: server.rss_bytes() - full > 40 * MIB, lambda: f"{full >> 20}, now {server.rss_bytes() >> 20} MiB")
            for other in crowd:
                other.close()
            wait_for(lambda: server.rss_bytes() - full < 12 * MIB,
                     lambda: f"full {full >> 20}, now {server.rss_bytes() >> 20} MiB\n" + server.page("/debug/heap"))
            peer.close()

    def test_after_a_mass_expiry(self):
        def mass_expiry(_peer, _count):
            pass
        self.falls(mass_expiry, ttl=3)

    def test_a_lower_limit_gives_memory_back_at_once(self):
        with Server.ebbd(admin=True, flags=["-m", "160"]) as server:
            peer = server.connect()
            fill(peer, 140)
            full = server.rss_bytes()
            self.assertEqual(peer.ask(b"cache_memlimit 40"), b"OK")
            after = server.rss_bytes()  # the answer comes when it is done
            print(f"memory: cache_memlimit 40: {full >> 20} -> {after >> 20} MiB", flush=True)
            self.assertLess(after, full - 80 * MIB)
            wait_for(lambda: server.metrics()["ebb_memory_target_bytes"] == 40 * MIB, "the governor has not heard of it")
            self.assertEqual(peer.ask(b"cache_memlimit 160"), b"OK")
            self.assertEqual(int(peer.stats()["limit_maxbytes"]), 160 * MIB)
            peer.close()

    def test_every_limit_is_taken(self):
        """From the smallest, whose segments hold 16 KiB; each is used to the full, and what is resident follows."""
        with Server.ebbd(admin=True, flags=["-m", "3"]) as server:
            peer = server.connect()
            at_start = server.rss_bytes()
            for mib in (8, 256, 8, 512, 64, 16):
                self.assertEqual(peer.ask(b"cache_memlimit %d" % mib), b"OK")
                fill(peer, 2 * mib, prefix=b"to-%d-" % mib)
                stats = peer.stats()
                resident = server.rss_bytes() - at_start
                print(f"memory: cache_memlimit {mib}: {int(stats['bytes']) >> 20} MiB of items, {resident >> 20} MiB resident", flush=True)
                self.assertEqual(int(stats["limit_maxbytes"]), mib * MIB)
                self.assertGreater(int(stats["bytes"]), mib * MIB * 4 // 5)
                self.assertLess(int(stats["bytes"]), mib * MIB)
                self.assertLess(resident, mib * MIB + 24 * MIB)
            peer.close()


if __name__ == "__main__":
    unittest.main(warnings="ignore")
