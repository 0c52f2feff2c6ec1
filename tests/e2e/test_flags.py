#!/usr/bin/python3
"""Every flag of ebbd on a real process: what it does, and what a bad value says."""
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

from servers import EBBD, MEMCACHED, START_SECONDS_MAX, STOP_SECONDS_MAX, Peer, Server, free_port, test_folder

AS_ROOT = ["-u", "root"] if os.geteuid() == 0 else []


def run(*words, folder=None):
    """Runs ebbd to its end."""
    return subprocess.run([EBBD, *words], capture_output=True, timeout=START_SECONDS_MAX, text=True, cwd=folder)


class Refusals(unittest.TestCase):
    def refuse(self, *words, names=()):
        """The start is refused: status not 0, one line on stderr, which names the matter."""
        done = run(*AS_ROOT, *words)
        self.assertGreater(done.returncode, 0, words)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, f"{words}: {done.stderr!r}")
        for name in names:
            self.assertIn(name, lines[0], words)
        self.assertEqual(done.stdout, "", words)

    def test_numbers_out_of_bounds(self):
        for flag, value in (("-p", "65536"), ("-p", "-2"), ("-p", "x"), ("-p", ""), ("-m", "0"), ("-m", "99999999999"),
                            ("-c", "0"), ("-c", "x"), ("-t", "0"), ("-t", "4097"), ("-t", "2x"), ("-U", "65536"), ("-b", "0")):
            self.refuse(flag, value, names=[flag.lstrip("-")])

    def test_long_names_out_of_bounds(self):
        for name, value in (("port", "70000"), ("memory-limit", "0"), ("conn-limit", "0"), ("threads", "10000")):
            self.refuse(f"--{name}", value, names=[name])
            self.refuse(f"--{name}={value}", names=[name])

    def test_item_sizes_out_of_bounds(self):
        for value in ("0", "100", "2g", "1t", "-1", "x", "1mm"):
            self.refuse("-I", value, names=["I"])

    def test_unknown_flags(self):
        for flag in ("--no-such-flag", "-Q", "--portx=1"):
            self.refuse(flag, names=[flag.split("=")[0].lstrip("-")])

    def test_words_that_are_no_flags(self):
        self.refuse("11211", names=["11211"])

    def test_a_flag_without_its_value(self):
        for flag in ("-p", "-m", "--admin", "--heap-trace"):
            self.refuse(flag, names=[flag.lstrip("-")])

    def test_an_address_that_is_none(self):
        self.refuse("-l", "no.such.host.invalid", "-p", "0", names=["no.such.host.invalid"])

    def test_an_unknown_user(self):
        if os.geteuid() == 0:
            local = ["-l", "127.0.0.1", "-p", str(free_port())]
            for words in (local, [*local, "-P", os.path.join(test_folder("user"), "pid")], ["-s", os.path.join(test_folder("user"), "s")]):
                self.refuse("-u", "no-such-user", *words, names=["(-u)", "no-such-user"])

    def test_a_pid_file_that_cannot_be_written(self):
        self.refuse("-l", "127.0.0.1", "-p", str(free_port()), "-P", "/no/such/folder/pid", names=["(-P)", "/no/such/folder/pid"])

    def test_a_pid_file_that_takes_no_pid_is_not_left_empty(self):
        path = os.path.join(test_folder("pid"), "pid")
        for _ in range(2):
            done = subprocess.run([EBBD, *AS_ROOT, "-l", "127.0.0.1", "-p", "-1", "-P", path], capture_output=True, text=True,
                                  timeout=START_SECONDS_MAX, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
            self.assertEqual((done.returncode, done.stderr), (71, f"ebbd: cannot write pid file {path}: File too large\n"))
            self.assertFalse(os.path.exists(path))
            with open(path, "w") as file:  # of one that was killed: it is taken over, and goes too
                file.write("1\n")

    def test_a_pid_file_that_is_a_device_stays(self):
        path = os.path.join(test_folder("pid"), "fifo")
        os.mkfifo(path)
        self.refuse("-l", "127.0.0.1", "-p", "-1", "-P", path, names=[f"cannot write pid file {path}: "])
        self.assertTrue(os.path.exists(path))

    def test_a_socket_path_that_will_not_do(self):
        file = os.path.join(test_folder("path"), "file")
        open(file, "w").close()
        for path in ("/no/such/folder/s", "/" + "x" * 200, file):
            self.refuse("-s", path, names=[path])
        self.assertTrue(os.path.exists(file))

    def test_values_of_flags_without_effect_have_their_form(self):
        for flag, value in (("-f", "x"), ("-f", "0"), ("-n", "0"), ("-n", "5x"), ("-N", "")):
            self.refuse(flag, value, names=[flag, value])

    def test_an_address_list_without_an_address_and_a_delimiter_without_a_character(self):
        for value in ("", ",", ";,", ":11211", "[]", "[]:11211"):
            self.refuse("-l", value, names=["-l", value])
        self.refuse("-D", "", names=["-D"])

    def test_an_unknown_profile(self):
        self.refuse("--gc-profile", "no-such-profile", "-l", "127.0.0.1", "-p", str(free_port()), names=["no-such-profile"])

    def test_a_profile_with_an_unknown_key_names_file_and_line(self):
        folder = test_folder("profile")
        path = os.path.join(folder, "bad.conf")
        with open(path, "w") as file:
            file.write("# a comment\nmarkers = 1\nno_such_key = 1\n")
        self.refuse("--gc-profile", path, "-l", "127.0.0.1", "-p", str(free_port()), names=[path, "3", "no_such_key"])
        with open(path, "w") as file:
            file.write("markers = 1000\n")
        self.refuse("--gc-profile", path, "-l", "127.0.0.1", "-p", str(free_port()), names=[path, "1", "markers"])

    def test_a_heap_trace_that_cannot_be_written(self):
        done = run(*AS_ROOT, "--heap-trace", "/no/such/folder/trace.csv", "-l", "127.0.0.1", "-p", str(free_port()))
        self.assertGreater(done.returncode, 0)
        self.assertIn("/no/such/folder/trace.csv", done.stderr)

    def test_a_port_in_use_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = run(*AS_ROOT, "-l", "127.0.0.1", "-p", port)
            self.assertGreater(done.returncode, 0)
            self.assertIn(port, done.stderr)
            self.assertRegex(done.stderr, "in use")

    def test_an_admin_port_in_use_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = run(*AS_ROOT, "-l", "127.0.0.1", "-p", str(free_port()), "--admin", f"127.0.0.1:{port}")
            self.assertGreater(done.returncode, 0)
            self.assertIn(port, done.stderr)


class Flags(unittest.TestCase):
    def test_version(self):
        for flag in ("-V", "--version"):
            done = run(flag)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertRegex(done.stdout, r"^ebbd \d+\.\d+\.\d+\n$")

    def test_help_names_every_flag_in_80_columns(self):
        for flag in ("-h", "--help"):
            done = run(flag)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            for name in ("port", "unix-socket", "listen", "threads", "memory-limit", "conn-limit", "max-item-size", "verbose",
                         "daemon", "pidfile", "user", "help", "version", "udp-port", "admin", "gc-profile", "heap-trace"):
                self.assertIn("--" + name, done.stdout)
            self.assertLessEqual(max(map(len, done.stdout.splitlines())), 80)

    def test_limits_are_what_stats_say(self):
        with Server.ebbd(flags=["-m", "100", "-c", "77", "-t", "2"]) as server:
            stats = server.connect().stats()
            self.assertEqual(stats["limit_maxbytes"], str(100 << 20))
            self.assertEqual(stats["max_connections"], "77")
            self.assertEqual(stats["threads"], "2")

    def test_long_names_do_the_same(self):
        with Server.ebbd(flags=["--memory-limit=100", "--conn-limit", "77", "--threads=2", "--max-item-size=2m"]) as server:
            peer = server.connect()
            stats = peer.stats()
            self.assertEqual((stats["limit_maxbytes"], stats["max_connections"], stats["threads"]),
                             (str(100 << 20), "77", "2"))
            self.assertEqual(peer.set(b"a", b"x" * 1500000), b"STORED")

    def test_names_of_memcached_may_be_cut_short_as_there(self):
        with Server.ebbd(flags=["--conn=77", "--thr", "2", "--memory-l=100", "--max-i=2m", "--prot=auto"]) as server:
            stats = server.connect().stats()
        self.assertEqual((stats["limit_maxbytes"], stats["max_connections"], stats["threads"]), (str(100 << 20), "77", "2"))
        names = re.findall(r"^\s*(?:-\w, )?--([\w-]+)", subprocess.run([MEMCACHED, "-h"], capture_output=True, text=True).stdout, re.M)
        self.assertGreater(len(names), 30)
        for name in names:
            for cut in range(1, len(name)):
                if "short for more" in run(f"--{name[:cut]}=x", "-h").stderr:  # memcached tells it in getopt's words
                    theirs = subprocess.run([MEMCACHED, f"--{name[:cut]}=x", "-h"], capture_output=True, text=True)
                    self.assertIn("ambiguous", theirs.stderr, name[:cut])

    def ports(self, path):
        """The lines of a port file: transport and family, and the port."""
        with open(path) as file:
            return [(kind, int(port)) for kind, port in (line.rstrip("\n").split(": ") for line in file)]

    def test_any_free_port_and_the_file_that_tells_which(self):
        for program in (EBBD, MEMCACHED):
            path = os.path.join(test_folder("ports"), "ports")
            with open(path + ".lck", "w") as file:  # of a start that was killed
                file.write("" if program == MEMCACHED else "TCP INET: 1\n")
            child = subprocess.Popen([program, *AS_ROOT, "-l", "127.0.0.1", "-p", "-1", "-U", "-1"], stdin=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL, env={**os.environ, "MEMCACHED_PORT_FILENAME": path})
            try:
                until = time.monotonic() + START_SECONDS_MAX
                while not os.path.exists(path):  # it is there as a whole
                    self.assertIsNone(child.poll())
                    self.assertLess(time.monotonic(), until)
                    time.sleep(0.01)
                ports = self.ports(path)
                self.assertEqual([kind for kind, _ in ports], ["TCP INET", "UDP INET"])
                peer = Peer(socket.create_connection(("127.0.0.1", ports[0][1]), START_SECONDS_MAX))
                self.assertEqual(peer.set(b"a", b"1"), b"STORED")
                settings = peer.stats(b"settings")
                self.assertEqual((settings["tcpport"], settings["udpport"]), ("-1", "-1"))
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                    datagrams.settimeout(START_SECONDS_MAX)
                    datagrams.sendto(b"\0\1\0\0\0\1\0\0get a\r\n", ("127.0.0.1", ports[1][1]))
                    self.assertIn(b"VALUE a 0 1\r\n1", datagrams.recv(1400))
                peer.close()
                self.assertEqual(os.listdir(os.path.dirname(path)), ["ports"])
            finally:
                child.terminate()
                child.wait(STOP_SECONDS_MAX)

    def test_a_port_file_that_cannot_be_written_is_named(self):
        done = subprocess.run([EBBD, *AS_ROOT, "-l", "127.0.0.1", "-p", "-1"], capture_output=True, text=True, timeout=START_SECONDS_MAX,
                              env={**os.environ, "MEMCACHED_PORT_FILENAME": "/no/such/folder/ports"})
        self.assertEqual(done.returncode, 71)
        self.assertRegex(done.stderr, r"^ebbd: \$MEMCACHED_PORT_FILENAME: cannot open /no/such/folder/ports.lck: [^\n]*\n$")

    def test_pressure_that_cannot_be_watched_is_told_and_nothing_else(self):
        for path in ("/no/such/file", "/proc"):
            with Server.ebbd(environment={"MEMORY_PRESSURE_WATCH": path}) as server:
                server.connect().close()
            self.assertRegex(server.stderr(), rf"cannot watch memory pressure at {path}: ")

    def refused_with_one_line(self, limit, count, name, *flags):
        """False: it serves within this limit. Else one line says which it was, and nothing ends by a signal."""
        child = subprocess.Popen([EBBD, *AS_ROOT, "-l", "127.0.0.1", "-p", "-1", *flags], stderr=subprocess.PIPE, text=True, env={},
                                 preexec_fn=lambda: resource.setrlimit(limit, (count, count)))
        line = child.stderr.readline()
        refused = " serves on " not in line
        if refused:
            self.assertEqual((child.wait(STOP_SECONDS_MAX), child.stderr.read()), (71, ""), (count, line))
            self.assertIn(f"ulimit {name}", line)
        child.terminate()
        child.wait(STOP_SECONDS_MAX)
        child.stderr.close()
        return refused

    @unittest.skipIf("EBB_SANITIZED" in os.environ, "a sanitizer reserves address space")
    def test_too_little_memory_to_start_with_is_one_line(self):
        for limit, name, least in ((resource.RLIMIT_AS, "-v", ()), (resource.RLIMIT_DATA, "-d", (1, 2, 4))):
            refused = [self.refused_with_one_line(limit, mib << 20, name) for mib in (*least, 12, 16, 20, 30, 40, 50)]
            self.assertIn(True, refused)

    @unittest.skipIf("EBB_SANITIZED" in os.environ, "a sanitizer reserves address space")
    def test_too_little_memory_for_the_tables_of_a_large_cache_is_one_line(self):
        refused = [self.refused_with_one_line(resource.RLIMIT_AS, mib << 20, "-v", "-m", "1024") for mib in range(17, 27)]
        self.assertIn(True, refused)

    @unittest.skipIf("EBB_SANITIZED" in os.environ, "a sanitizer needs a larger stack before main")
    def test_too_small_a_stack_is_raised_or_one_line(self):
        for kib in (16, 32, 64, 96, 128, 256, 511):
            self.refused_with_one_line(resource.RLIMIT_STACK, kib << 10, "-s")
        soft = (16 << 10, resource.getrlimit(resource.RLIMIT_STACK)[1])
        done = subprocess.Popen([EBBD, *AS_ROOT, "-l", "127.0.0.1", "-p", "-1"], stderr=subprocess.PIPE, text=True, env={},
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, soft))
        self.assertIn(" serves on ", done.stderr.readline())
        self.assertGreaterEqual(resource.prlimit(done.pid, resource.RLIMIT_STACK)[0], 512 << 10)
        done.terminate()
        self.assertEqual(done.wait(STOP_SECONDS_MAX), 0)
        done.stderr.close()

    @unittest.skipUnless(os.geteuid() == 0, "only root becomes a user that nobody else is")
    def test_too_few_processes_are_told_by_the_limit_that_it_is(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            os.setresuid(61234, 61234, 61234)
        done = subprocess.run([EBBD, "-l", "127.0.0.1", "-p", "-1"], capture_output=True, text=True, preexec_fn=limit, cwd="/",
                              timeout=START_SECONDS_MAX)
        self.assertEqual(done.returncode, 71)
        self.assertRegex(done.stderr, r"^ebbd: cannot start thread [\w-]+: [^;]*; see ulimit -u, LimitNPROC= and TasksMax= of the service\n$")

    def test_unix_socket_serves_and_is_gone_after_the_end(self):
        path = os.path.join(test_folder("unix"), "s")
        with Server.ebbd(unix_path=path) as server:
            peer = server.connect()
            self.assertEqual(peer.set(b"a", b"1"), b"STORED")
            self.assertEqual(peer.get(b"a"), b"1")
            self.assertTrue(stat.S_ISSOCK(os.stat(path).st_mode))
        self.assertFalse(os.path.exists(path))

    def test_two_daemons_side_by_side(self):
        with Server.ebbd(admin=True) as one, Server.ebbd(admin=True) as two:
            one.connect().set(b"a", b"1")
            self.assertIsNone(two.connect().get(b"a"))
            self.assertEqual(one.metrics()["memcached_current_items"], 1)
            self.assertEqual(two.metrics()["memcached_current_items"], 0)

    def test_several_addresses(self):
        port = free_port()
        with Server.ebbd(flags=["-l", f"127.0.0.2:{port}"]) as server:
            with socket.create_connection(("127.0.0.2", port)) as sock:
                self.assertEqual(Peer(sock).set(b"a", b"1"), b"STORED")
            self.assertEqual(server.connect().get(b"a"), b"1")

    def test_admin_is_off_unless_asked_for(self):
        with Server.ebbd() as server:
            server.connect().close()
        ports = re.findall(r"port (\d+)", server.stderr())
        self.assertEqual(set(ports), {str(server.port)})

    def test_admin_pages(self):
        with Server.ebbd(admin=True) as server:
            self.assertTrue(server.page("/healthz"))
            self.assertIn("memcached_up 1", server.page("/metrics"))

    def test_sigint_ends_like_sigterm(self):
        with Server.ebbd() as server:
            server.process.send_signal(signal.SIGINT)
            server.process.wait(STOP_SECONDS_MAX)
            server.check_end()

    def test_a_stop_with_open_connections_and_half_requests_is_clean(self):
        with Server.ebbd(admin=True) as server:
            peers = [server.connect() for _ in range(20)]
            for number, peer in enumerate(peers):
                peer.send((b"get a", b"set a 0 0 100\r\nxx", b"set b 0 0 1000000\r\n" + b"y" * 5000, b"")[number % 4])
            server.stop()
            for peer in peers:
                peer.close()

    def test_verbose_logs_more(self):
        with Server.ebbd(flags=["-vv"]) as server:
            server.connect().set(b"a", b"1")
        # After the end: the log may be written a little later than its events.
        self.assertIn("DEBUG", server.stderr())


class Background(unittest.TestCase):
    def alive(self, pid):
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().split(")")[1].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def test_daemon_writes_its_pid_serves_and_stops_without_a_trace(self):
        folder = test_folder("daemon")
        port, pid_file = free_port(), os.path.join(folder, "ebbd.pid")
        # The streams are files: a pipe would stay open as long as the daemon lives.
        with open(os.path.join(folder, "stderr"), "w+") as err:
            done = subprocess.run([EBBD, *AS_ROOT, "-d", "-P", pid_file, "-l", "127.0.0.1", "-p", str(port)],
                                  stdin=subprocess.DEVNULL, stdout=err, stderr=err, timeout=START_SECONDS_MAX, cwd=folder)
            err.seek(0)
            self.assertEqual(done.returncode, 0, err.read())
        # The parent returns when the child serves: nothing is waited for here.
        with open(pid_file) as file:
            pid = int(file.read())
        try:
            peer = Peer(socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS_MAX))
            self.assertEqual(peer.set(b"a", b"1"), b"STORED")
            self.assertEqual(peer.stats()["pid"], str(pid))
            peer.close()
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + STOP_SECONDS_MAX
            while self.alive(pid) and time.monotonic() < until:
                time.sleep(0.02)
            self.assertFalse(self.alive(pid))
        finally:
            if self.alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.assertEqual(os.listdir(folder), ["stderr"])

    def start(self, *words, folder, closed=()):
        """In the background; its pid. closed: descriptors that it is started without."""
        pid_file = os.path.join(folder, "pid")
        with open(os.path.join(folder, "stderr"), "w+") as err:
            done = subprocess.run([EBBD, *AS_ROOT, "-d", "-P", "pid", "-l", "127.0.0.1", *words], stdin=subprocess.DEVNULL,
                                  stdout=err, stderr=err, timeout=START_SECONDS_MAX, cwd=folder,
                                  preexec_fn=lambda: [os.close(number) for number in closed])
            err.seek(0)
            self.assertEqual(done.returncode, 0, err.read())
        with open(pid_file) as file:
            pid = int(file.read())
        self.addCleanup(lambda: self.alive(pid) and os.kill(pid, signal.SIGKILL))
        return pid

    def wait_until(self, condition):
        until = time.monotonic() + STOP_SECONDS_MAX
        while not condition():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)

    def test_streams_that_were_closed_are_nobody_elses(self):
        for closed in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]):
            folder, port = test_folder("streams"), free_port()
            pid = self.start("-p", str(port), "--log-file", "log", folder=folder, closed=closed)
            for number in range(3):
                self.assertEqual(os.readlink(f"/proc/{pid}/fd/{number}"), "/dev/null")
            peer = Peer(socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS_MAX))
            self.assertEqual(peer.set(b"a", b"1"), b"STORED")
            peer.close()
            os.kill(pid, signal.SIGTERM)
            self.wait_until(lambda: not self.alive(pid))
            with open(os.path.join(folder, "log")) as file:
                self.assertIn("ended: all is closed", file.read())

    def test_a_stream_that_was_closed_is_nobody_elses_in_the_foreground(self):
        with tempfile.TemporaryFile("w+") as out:
            child = subprocess.Popen([EBBD, *AS_ROOT, "-l", "127.0.0.1", "-p", "-1", "--log-file", "log"], stdin=out, stdout=out,
                                     stderr=out, cwd=test_folder("streams"), preexec_fn=lambda: os.closerange(0, 3))
            log = os.path.join(f"/proc/{child.pid}/cwd", "log")
            self.wait_until(lambda: os.path.exists(log) and "serves" in open(log).read())
            for number in range(3):
                self.assertEqual(os.readlink(f"/proc/{child.pid}/fd/{number}"), "/dev/null")
            child.terminate()
            self.assertEqual(child.wait(STOP_SECONDS_MAX), 0)

    def test_it_leaves_the_folder_it_was_started_in_and_relative_paths_hold(self):
        folder = test_folder("left")
        pid = self.start("-s", "socket", "--log-file", "log", "--heap-trace", "trace", "--leak-report", "leaks", folder=folder)
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        held = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
        self.assertEqual(sorted(path for path in held if path.startswith(folder)), [os.path.join(folder, name) for name in ("log", "pid", "trace")])
        log = os.path.join(folder, "log")
        os.rename(log, log + ".1")
        os.kill(pid, signal.SIGHUP)
        self.wait_until(lambda: os.path.exists(log) and "goes on in" in open(log).read())
        os.kill(pid, signal.SIGUSR2)
        self.wait_until(lambda: "snapshot" in open(log).read())
        os.kill(pid, signal.SIGTERM)
        self.wait_until(lambda: not self.alive(pid))
        names = sorted(os.listdir(folder))
        self.assertEqual([name for name in names if not name.endswith(".heapsnapshot")],
                         ["leaks", "leaks.json", "log", "log.1", "stderr", "trace"])
        self.assertEqual(len(names), 7)

    def test_with_core_files_it_stays_where_they_go_as_memcached(self):
        folder = test_folder("stays")
        pid = self.start("-r", "-p", str(free_port()), folder=folder)
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), folder)
        os.kill(pid, signal.SIGTERM)
        self.wait_until(lambda: not self.alive(pid))
        self.assertEqual(os.listdir(folder), ["stderr"])

    def test_daemon_that_cannot_start_says_so(self):
        folder = test_folder("daemon")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = run(*AS_ROOT, "-d", "-P", os.path.join(folder, "ebbd.pid"), "-l", "127.0.0.1", "-p", port)
            self.assertGreater(done.returncode, 0)
            self.assertIn(port, done.stderr)
        self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    unittest.main(warnings="ignore")
