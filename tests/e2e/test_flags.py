#!/usr/bin/python3
"""Every flag of ebbd on a real process: what it does, and what a bad value says."""
import os
import re
import signal
import socket
import stat
import subprocess
import time
import unittest

from servers import EBBD, START_SECONDS_MAX, STOP_SECONDS_MAX, Peer, Server, free_port, test_folder

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
        for flag, value in (("-p", "65536"), ("-p", "-1"), ("-p", "x"), ("-p", ""), ("-m", "0"), ("-m", "99999999999"),
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
