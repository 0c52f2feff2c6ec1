#!/usr/bin/python3
"""What is not memory: descriptors that are inherited, run out, and are all given back; the end; the background; signals
while others work."""
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

from servers import BAD_LOG, EBBD, Peer, Server, free_port, scaled, test_folder

WAIT_SECONDS_MAX = 20
AS_ROOT = ["-u", "root"] if os.geteuid() == 0 else []


def wait_for(condition, what):
    until = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(what() if callable(what) else what)
        time.sleep(0.02)


def ask(address, line=b"version\r\n"):
    """One line of an answer from whoever listens at a TCP port or a path; None when nobody does."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(10)
        try:
            sock.connect(address if family == socket.AF_UNIX else ("127.0.0.1", address))
            sock.sendall(line)
            return sock.recv(4096)
        except (ConnectionRefusedError, FileNotFoundError):
            return None


def end(process, status=0):
    """SIGTERM, then its exit status; returns what it said on stderr."""
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=60)[1]
    assert process.returncode == status, f"status {process.returncode}:\n{text}"
    assert not BAD_LOG.search(text), text
    return text


def handed_over(sockets, words, names=None, pid=None, others=()):
    """Starts ebbd as a service manager does: sockets at 3, 4 …, LISTEN_FDS and LISTEN_PID set by the process itself."""
    count = len(sockets)
    high = [os.dup2(sock.fileno(), 200 + i) for i, sock in enumerate(sockets)]

    def before():
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i)
        os.environ["LISTEN_FDS"] = str(count)
        os.environ["LISTEN_PID"] = str(pid or os.getpid())
        if names:
            os.environ["LISTEN_FDNAMES"] = names
        os.execv(EBBD, [EBBD] + AS_ROOT + words)

    child = subprocess.Popen(["unused"], executable="/bin/true", stderr=subprocess.PIPE, text=True, preexec_fn=before,
                             close_fds=False, pass_fds=())
    for fd in high:
        os.close(fd)
    return child


class Inherited(unittest.TestCase):
    def test_sockets_of_the_service_manager_are_served_and_no_port_is_opened(self):
        with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix, socket.socket(type=socket.SOCK_DGRAM) as udp:
            path = os.path.join(test_folder("activation"), "sock")
            unused = free_port()
            tcp.bind(("127.0.0.1", 0))
            udp.bind(("127.0.0.1", 0))
            unix.bind(path)
            tcp.listen()
            unix.listen()
            child = handed_over([tcp, unix, udp], ["-p", str(unused)], names="cache:local:odd")
            self.assertTrue(ask(tcp.getsockname()[1]).startswith(b"VERSION"))
            self.assertTrue(ask(path).startswith(b"VERSION"))
            self.assertIsNone(ask(unused))
            text = end(child)
            self.assertIn("descriptor 5 from the service manager is no listening stream socket", text)

    def test_sockets_meant_for_another_process_are_strangers(self):
        with socket.socket() as tcp:
            port = free_port()
            tcp.bind(("127.0.0.1", 0))
            tcp.listen()
            child = handed_over([tcp], ["-l", "127.0.0.1", "-p", str(port)], pid=1)
            wait_for(lambda: ask(port) is not None, "nobody at the port")
            text = end(child)
            self.assertRegex(text, r"descriptor 3 \(socket:\[\d+\]\) was left open by whoever started us; closed")

    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "systemd-socket-activate is not installed")
    def test_systemd_socket_activate_starts_it_at_the_first_connection(self):
        port = free_port()
        words = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "--fdname=cache", EBBD] + AS_ROOT
        child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        answers = []
        wait_for(lambda: answers.append(ask(port)) or answers[-1], "nobody at the port")
        self.assertTrue(answers[-1].startswith(b"VERSION"))
        end(child)

    def test_strangers_are_closed_and_named_and_the_standard_three_stay(self):
        port = free_port()
        read_end, write_end = os.pipe()
        os.set_inheritable(write_end, True)
        child = subprocess.Popen([EBBD, "-l", "127.0.0.1", "-p", str(port), "--log-format", "json"] + AS_ROOT,
                                 stderr=subprocess.PIPE, text=True, pass_fds=[write_end])
        os.close(write_end)
        wait_for(lambda: ask(port) is not None, "nobody at the port")
        self.assertEqual(os.read(read_end, 1), b"")  # the other end hears that it was closed
        os.close(read_end)
        self.assertTrue(os.readlink(f"/proc/{child.pid}/fd/2").startswith("pipe:"))
        lines = [json.loads(line) for line in end(child).splitlines()]
        told = [line for line in lines if line["event.code"] == "inherited_closed"]
        self.assertEqual([line["ebb.descriptor"] for line in told], [write_end])
        self.assertRegex(told[0]["message"], rf"descriptor {write_end} \(pipe:\[\d+\]\) was left open")

    def start_with_descriptors(self, allowed, words):
        """Under a hard limit of so many descriptors."""
        def lower():
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(allowed, 100), allowed))
            if os.geteuid() == 0:  # root may raise its own limit
                os.setresuid(65534, 65534, 65534)

        return subprocess.Popen([EBBD, *words], stderr=subprocess.PIPE, text=True, preexec_fn=lower)

    def test_with_too_few_descriptors_as_many_connections_as_fit(self):
        port = free_port()
        child = self.start_with_descriptors(200, ["-c", "5000", "-l", "127.0.0.1", "-p", str(port), "-t", "2"])
        wait_for(lambda: ask(port) is not None, "nobody at the port")
        with socket.create_connection(("127.0.0.1", port)) as sock:
            peer = Peer(sock)
            fit = int(peer.stats()["max_connections"])
            self.assertLess(fit, 200)
            others = [socket.create_connection(("127.0.0.1", port)) for _ in range(fit - 1)]  # all of them do
            for other in others:
                self.assertEqual(Peer(other).set(b"a", b"1"), b"STORED")
                other.close()
        told = [line for line in end(child).splitlines() if "conn-limit" in line]
        self.assertEqual(len(told), 1, told)
        self.assertIn(f"{fit} connections fit instead of the 5000 of --conn-limit (-c): the system allows 200 descriptors", told[0])

    def test_too_few_descriptors_for_any_connection_are_a_clear_error(self):
        child = self.start_with_descriptors(70, ["-c", "5000", "-p", "0"])
        _, error = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 71, error)
        self.assertRegex(error, r"--conn-limit \(-c\) 5000 needs \d+ descriptors, and the system allows 70")


def in_the_middle(server):
    """Waits until a connection stands in the middle of a request."""
    peer = server.connect()
    wait_for(lambda: "conn_nread" in peer.stats(b"conns").values(), "no connection waits for its value")
    peer.close()


def takes_no_more(server):
    try:
        server.connect().close()
    except OSError:
        return True
    return False


class RunningOut(unittest.TestCase):
    def test_the_oldest_idle_connection_makes_room_and_nobody_in_a_request_does(self):
        with Server.ebbd(admin=True, flags=["-t", "2", "-c", "500"]) as server:
            busy = server.connect()  # the oldest of all, but in the middle of a request
            busy.send(b"set half 0 0 10\r\n12345")
            in_the_middle(server)
            idle = []
            for number in range(6):
                idle.append(server.connect())
                self.assertEqual(idle[-1].set(b"k%d" % number, b"v"), b"STORED")
            time.sleep(1.2)
            for peer in idle[1:]:
                self.assertEqual(peer.get(b"k0"), b"v")  # idle[0] is the oldest now
            # No number is free below the limit: the next accept fails with EMFILE.
            self.assertEqual(len(server.descriptors()), max(map(int, server.descriptors())) + 1)
            limit = len(server.descriptors())
            allowed = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, allowed[1]))
            late = server.connect()
            self.assertEqual(late.set(b"late", b"1"), b"STORED")
            self.assertTrue(idle[0].closed())
            for peer in idle[1:]:
                self.assertEqual(peer.get(b"late"), b"1")
            busy.send(b"67890\r\n")
            self.assertEqual(busy.line(), b"STORED\r\n")
            text = server.stderr()
            self.assertRegex(text, r"descriptors have run out: closed the oldest idle connection, 127.0.0.1:\d+, "
                                   r"idle for [1-9]\d* s")
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, allowed)
            self.assertEqual(server.metrics()["ebb_connections_shed_total"], 1)
            for peer in idle + [late, busy]:
                peer.close()


class Listing(unittest.TestCase):
    def test_the_page_tells_everything_that_the_kernel_knows(self):
        with Server.ebbd(admin=True) as server:
            peer = server.connect()
            peer.ask(b"version")
            page = json.loads(server.page("/debug/resources?format=json"))
            rows = page["resources"]
            told = {row["id"] for row in rows if row["id"] >= 0}
            kernel = {int(fd) for fd in server.descriptors()}
            self.assertLessEqual(kernel, told | {max(told) + 1})  # the page's own connection may be gone already
            local = "%s:%d" % peer.sock.getsockname()
            row = next(row for row in rows if row["what"] == local)
            self.assertEqual((row["class"], row["owner"]), ("socket", "connection"))
            self.assertRegex(row["opened_by"], r"^on_waiting \(listener\.c:\d+\)$")
            self.assertEqual(sum(row["class"] == "thread" for row in rows), 4)
            self.assertEqual(page["forgotten"], 0)
            text = server.page("/debug/resources")
            self.assertRegex(text, rf"socket +\d+ +connection +\d+ +on_waiting \(listener\.c:\d+\) +{local}")
            peer.close()

    def test_bad_input_to_a_page_is_a_4xx_with_a_reason(self):
        with Server.ebbd(admin=True) as server:
            pages = ("/", "/metrics", "/healthz", "/readyz", "/debug/heap", "/debug/resources", "/debug/leaks", "/debug/log",
                     "/debug/status", "/debug/slow", "/debug/alarms", "/debug/events")

            def status(path, method="GET", data=None):
                request = urllib.request.Request(f"http://127.0.0.1:{server.admin_port}{path}", method=method, data=data)
                try:
                    with urllib.request.urlopen(request, timeout=30) as reply:
                        return reply.status, reply.read()
                except urllib.error.HTTPError as error:
                    return error.code, error.read()

            for path in ("/nothing", "/debug/", "/debug/resources/x", "/%00", "/debug/resources%00", "/debug/resources?format=json%00"):
                code, body = status(path)
                self.assertTrue(400 <= code < 500 and len(body) > 4, f"{path}: {code} {body!r}")
            code, body = status("/debug/resources?format=yaml")
            self.assertEqual(code, 400, body)
            self.assertIn(b"format", body)
            for path in pages:
                for method in ("PUT", "DELETE", "PATCH"):
                    code, body = status(path, method, b"x")
                    self.assertIn(code, (400, 405, 501), f"{method} {path}: {code} {body!r}")
            self.assertEqual(status("/healthz")[0], 200)

    def test_the_admin_address_is_this_machines_own_unless_allowed(self):
        words = [EBBD, "-l", "127.0.0.1", "-p", "0", "--admin", "0.0.0.0:0"] + AS_ROOT
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 64)
        self.assertIn("not a loopback address", done.stderr)
        child = subprocess.Popen(words + ["--admin-allow-remote"], stderr=subprocess.PIPE, text=True)
        for line in child.stderr:  # ends when the daemon does
            if "serves on" in line:
                break
        end(child)


class End(unittest.TestCase):
    def test_who_is_in_the_middle_of_a_request_may_finish_it(self):
        with Server.ebbd(flags=["-t", "2", "--drain-seconds", "30"]) as server:
            busy, idle = server.connect(), server.connect()
            self.assertEqual(idle.set(b"a", b"1"), b"STORED")
            busy.send(b"set b 0 0 10\r\n12345")
            in_the_middle(server)
            server.process.send_signal(signal.SIGTERM)
            self.assertTrue(idle.closed())
            with self.assertRaises(OSError):
                server.connect()
            busy.send(b"67890\r\n")
            self.assertEqual(busy.line(), b"STORED\r\n")
            self.assertTrue(busy.closed())
            server.process.wait(20)
            self.assertNotIn("cut off", server.stderr())

    def test_the_drain_ends_in_time_and_a_second_signal_ends_it_at_once(self):
        for flags, signals in ((["--drain-seconds", "1"], 1), (["--drain-seconds", "1000"], 2)):
            with Server.ebbd(flags=flags) as server:
                busy = server.connect()
                busy.send(b"set b 0 0 10\r\n12345")
                in_the_middle(server)
                for _ in range(signals):
                    server.process.send_signal(signal.SIGTERM)
                    wait_for(lambda: takes_no_more(server), "the end does not begin")
                server.process.wait(20)
                self.assertTrue(busy.closed())
                self.assertEqual("cut off" in server.stderr(), signals == 1)


class Load:
    """Threads that set and get and compare, until stopped; wrong counts what was not as it should be."""

    def __init__(self, server, threads=4):
        self.server, self.going, self.wrong, self.done = server, True, [], 0
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        try:
            peer = self.server.connect()
            while self.going:
                key = b"t%d-%d" % (number, self.done % 1000)
                value = b"%d" % self.done * 50
                if peer.set(key, value) != b"STORED" or peer.get(key) not in (value, None):
                    self.wrong.append(key)
                self.done += 1
            peer.close()
        except Exception as error:  # told by stop()
            self.wrong.append(error)

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()
        return self.wrong


class Process(unittest.TestCase):
    def test_in_the_background_with_a_pid_file(self):
        folder = test_folder("background")
        pid_file, port, log = os.path.join(folder, "pid"), free_port(), os.path.join(folder, "log")
        words = [EBBD, "-d", "-P", pid_file, "-l", "127.0.0.1", "-p", str(port), "-t", "2"] + AS_ROOT
        with open(log, "w") as file:
            self.assertEqual(subprocess.run(words, stderr=file, timeout=60).returncode, 0)
        with open(pid_file) as file:  # it is there as soon as the parent has gone home
            pid = int(file.read())
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            self.assertEqual(int(fields[3]), pid)  # a session of its own
            self.assertEqual([os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)], ["/dev/null"] * 3)
            # The collector works in the child: much garbage, then the values are still right.
            with socket.create_connection(("127.0.0.1", port)) as sock:
                peer = Peer(sock)
                for number in range(scaled(3000, 300)):
                    self.assertEqual(peer.set(b"k%d" % (number % 50), b"v" * 50000), b"STORED")
                for number in range(50):
                    self.assertEqual(peer.get(b"k%d" % number), b"v" * 50000)
            again = subprocess.run(words, capture_output=True, text=True, timeout=60)
            self.assertNotEqual(again.returncode, 0)
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "it does not end")
        self.assertFalse(os.path.exists(pid_file))

    def test_a_start_in_the_background_that_fails_says_so_in_the_foreground(self):
        with Server.ebbd() as server:
            done = subprocess.run([EBBD, "-d", "-l", "127.0.0.1", "-p", str(server.port)] + AS_ROOT, capture_output=True,
                                  text=True, timeout=60)
            self.assertEqual(done.returncode, 71)
            self.assertIn("in use", done.stderr)

    def test_signals_do_not_cut_the_end_short(self):
        """The second Ctrl-C, a logrotate: the end is proved and leaves nothing behind all the same."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            pid_file = os.path.join(test_folder("end"), "pid")
            with Server.ebbd(flags=["-P", pid_file]) as server:
                server.process.send_signal(signal.SIGTERM)
                while server.process.poll() is None:
                    server.process.send_signal(number)
                    time.sleep(0.0005)
                self.assertEqual(server.process.returncode, 0, f"{number!r}: {server.stderr()}")
                self.assertFalse(os.path.exists(pid_file))
                self.assertIn("all is closed and collected", server.stderr())

    def test_storms_of_signals_harm_nobody(self):
        server = Server.ebbd(flags=["-m", "32"])
        try:
            load = Load(server)
            for number in range(scaled(400, 50)):
                server.process.send_signal((signal.SIGUSR1, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)[number % 4])
                time.sleep(0.002)
            before = load.done
            wait_for(lambda: load.done > before + 100, "nothing goes on")
            self.assertEqual(load.stop(), [])
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(60), 0, server.stderr())
            self.assertIn("heap", server.stderr())  # SIGUSR1's census, whose columns count leaks: none of Server's checks
        finally:
            server.kill()


class Files(unittest.TestCase):
    """What is at a path that was given for a file: pipes, devices, somebody else's."""

    def refused(self, *flags):
        words = [EBBD, "-l", "127.0.0.1", "-p", "0"] + AS_ROOT + list(flags)
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 71, done.stderr)
        return done.stderr

    def test_a_pipe_that_nobody_reads_keeps_nobody_waiting(self):
        fifo = os.path.join(test_folder("files"), "fifo")
        os.mkfifo(fifo)
        for flag in "--log-file", "--heap-trace", "--leak-report":
            self.assertIn("nobody reads this pipe", self.refused(flag, fifo), flag)

    def test_a_pipe_in_the_logs_place_stops_nobody(self):
        log = os.path.join(test_folder("files"), "log")
        with Server.ebbd(flags=["--log-file", log]) as server:
            os.rename(log, log + ".1")
            os.mkfifo(log)
            server.process.send_signal(signal.SIGHUP)

            def told():
                with open(log + ".1") as file:
                    return "the log goes on in the old file" in file.read()

            wait_for(told, "nothing is told")

    def test_a_heap_trace_that_is_no_file_is_not_rotated(self):
        root = os.geteuid() == 0  # which follows links in its own folders alone
        folder = tempfile.mkdtemp(dir="/run") if root else test_folder("files")
        self.addCleanup(shutil.rmtree, folder)
        link = os.path.join(folder, "trace")
        os.symlink("/dev/null", link)  # the device itself is everybody's
        with Server.ebbd(admin=True, flags=["--heap-trace", link, "--heap-trace-size", "4k"]) as server:
            for _ in range(60):
                urllib.request.urlopen(f"http://127.0.0.1:{server.admin_port}/debug/collect", data=b"", timeout=30).close()
            time.sleep(1.2)
        self.assertEqual((os.path.islink(link), os.path.lexists(link + ".1")), (True, False))

    def test_two_daemons_do_not_write_one_heap_trace(self):
        trace = os.path.join(test_folder("files"), "trace")
        with Server.ebbd(flags=["--heap-trace", trace]):
            self.assertIn("is being written by another process", self.refused("--heap-trace", trace))
            with open(trace) as file:
                self.assertIn("time,cause", file.readline())

    def test_the_pid_file_of_another_stays(self):
        pid_file = os.path.join(test_folder("files"), "pid")
        with Server.ebbd(flags=["-P", pid_file]) as first:
            os.unlink(pid_file)
            with Server.ebbd(flags=["-P", pid_file]) as second:
                first.stop()
                with open(pid_file) as file:
                    self.assertEqual(int(file.read()), second.pid)

    def test_a_leak_report_that_cannot_be_written_is_told_at_the_start(self):
        self.assertIn("--leak-report", self.refused("--leak-report", os.path.join(test_folder("files"), "none/report")))

    def test_a_snapshot_without_room_leaves_no_part_of_it(self):
        folder = test_folder("files")
        with Server.ebbd(flags=["--snapshot-folder", folder]) as server:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4 << 10, resource.RLIM_INFINITY))
            server.process.send_signal(signal.SIGUSR2)
            wait_for(lambda: "no snapshot in" in server.stderr(), server.stderr)
            self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    unittest.main(warnings="ignore")
