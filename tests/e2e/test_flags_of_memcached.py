#!/usr/bin/python3
"""Every flag and every -o option that memcached's own help names: taken, taken with a log line, or refused with one, as
docs/flags.md says; and what some of them do."""
import glob
import gzip
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from servers import EBBD, MEMCACHED, REPLY_SECONDS_MAX, START_SECONDS_MAX, STOP_SECONDS_MAX, Peer, Server, _die_with_parent, free_port

AS_ROOT = ["-u", "root"] if os.geteuid() == 0 else []
SOURCE = os.environ.get("EBB_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
MANUAL = "/usr/share/man/man1/memcached.1.gz"
LISTENS = "0A"  # of /proc/net/tcp
NEEDS_VALUE = {"f": "1.25", "n": "48", "N": "1"}


def run(*words):
    return subprocess.run(words, capture_output=True, timeout=START_SECONDS_MAX, text=True)


def table():
    """Flags and options of ebbd's table, each with what becomes of it."""
    rows = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in run(EBBD, "--flags-table").stdout.splitlines()
            if line.startswith("| `")]
    flags = {re.search(r"`-(.)`", row[0]).group(1): row[2] for row in rows if re.search(r"`-.`", row[0]) and len(row) >= 4}
    options = {row[0].strip("`"): row[1] for row in rows if re.fullmatch(r"`\w+`", row[0])}
    return flags, options


class Table(unittest.TestCase):
    def setUp(self):
        self.flags, self.options = table()
        self.help = run(MEMCACHED, "-h").stdout

    def named(self, kind):
        return [name for name, fate in self.options.items() if fate == kind]

    def test_every_flag_of_memcacheds_help_is_in_the_table(self):
        flags = re.findall(r"^-(\w)[, ]", self.help, re.M)
        self.assertGreater(len(flags), 35)
        self.assertEqual([f for f in flags if f not in self.flags], [])

    def test_every_option_of_memcacheds_help_is_in_the_table(self):
        options = re.findall(r"^   - (\w+):", self.help, re.M)
        self.assertGreater(len(options), 45)
        self.assertEqual([o for o in options if o not in self.options], [])

    def test_every_long_flag_of_memcacheds_help_is_known(self):
        names = set(re.findall(r"--([a-z][\w-]+)", self.help.replace("napi_ids", "napi-ids")))  # the help alone writes it so
        self.assertGreater(len(names), 35)
        ours = run(EBBD, "--flags-table").stdout
        self.assertEqual([name for name in sorted(names) if f"`--{name}`" not in ours], [])

    @unittest.skipUnless(os.path.exists(MANUAL), "manual pages are not installed here")
    def test_every_flag_of_the_manual_page_is_known(self):
        with gzip.open(MANUAL, "rt") as file:
            text = file.read().replace("\\-", "-")
        short, long = set(re.findall(r"^\.B \\?-(\w)\b", text, re.M)), set(re.findall(r"--([a-z][\w-]+)", text))
        self.assertGreater(len(short), 25)
        self.assertGreater(len(long), 20)
        ours = run(EBBD, "--flags-table").stdout
        self.assertEqual([f for f in sorted(short) if f not in self.flags], [])
        self.assertEqual([name for name in sorted(long) if f"`--{name}`" not in ours], [])

    def test_every_option_that_the_program_itself_knows_is_in_the_table(self):
        # Some are in no help. A word that it does not know is the one that it names.
        with open(MEMCACHED, "rb") as file:
            words = set(re.findall(rb"(?<=\0)(?:[a-z]+(?:_[a-z]+)+|hashpower|modern)(?=\0)", file.read()))
        known = []
        for word in sorted(word.decode() for word in words):
            done = run(MEMCACHED, *AS_ROOT, "-o", f"{word},no_such_word")
            self.assertNotEqual(done.returncode, 0, word)
            if f'Illegal suboption "{word}"' not in done.stderr:
                known.append(word)
        self.assertGreater(len(known), 50)
        self.assertEqual([word for word in known if word not in self.options], [])

    def test_the_document_is_the_table(self):
        with open(os.path.join(SOURCE, "docs", "flags.md")) as file:
            self.assertEqual(file.read(), run(EBBD, "--flags-table").stdout, "write it anew: ebbd --flags-table > docs/flags.md")

    def test_refused_ones_end_the_start_with_one_line(self):
        refused = [["-o", f"{name}=1"] for name in self.named("refused")]
        refused += [[f"-{letter}"] + (["x"] if letter in "eY" else []) for letter, fate in self.flags.items() if fate == "refused"]
        self.assertGreater(len(refused), 20)
        for words in refused:
            done = run(EBBD, *AS_ROOT, *words)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (64, 1), words)
            self.assertIn("refused", done.stderr)
            self.assertIn(words[-1].split("=")[0] if words[0] == "-o" else words[0], done.stderr)

    def test_ignored_ones_start_with_a_log_line_each(self):
        options = self.named("accepted, no effect")
        letters = [letter for letter, fate in self.flags.items() if fate == "accepted, no effect"]
        words = [word for letter in letters for word in [f"-{letter}", NEEDS_VALUE.get(letter)] if word]
        log = ""
        for part in range(0, len(options), 10):  # the log has a limit for lines of one kind
            listed = ",".join(f"{name}=10" for name in options[part:part + 10])
            with Server.ebbd(flags=[*(words if part == 0 else ()), "-o", listed]) as server:
                log += server.stderr()
        for name in [f"-{letter}" for letter in letters] + [f"-o {name}" for name in options]:
            self.assertEqual(len(re.findall(rf"(?<!\S){name} has no effect: ", log)), 1, f"{name} in {log}")

    def test_others_start(self):
        with Server.ebbd(flags=["-o", "modern,maxconns_fast", "-o", "no_modern", "-r", "-R", "20", "-C", "-M"]) as server:
            self.assertEqual(server.connect().ask(b"version")[:7], b"VERSION")

    def test_a_bad_option_is_named(self):
        for words, name in ((["-o", "nonsense"], "nonsense"), (["-o", "idle_timeout"], "idle_timeout"), (["-o", "hashpower=x"], "hashpower"),
                            (["-B", "telnet"], "telnet"), (["-R", "0"], "-R")):
            done = run(EBBD, *AS_ROOT, *words)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (64, 1), words)
            self.assertIn(name, done.stderr)


def tcp_ports(pid):
    """Ports that the process listens at."""
    inodes = set()
    for link in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
        except FileNotFoundError:
            pass  # closed meanwhile
    found = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}") as file:
            rows = [line.split() for line in file.read().splitlines()[1:]]
        found.update(int(row[1].split(":")[1], 16) for row in rows if row[3] == LISTENS and row[9] in inodes)
    return found


class Listening(unittest.TestCase):
    """Where both listen for the same flags."""

    def both(self, **options):
        for kind in (Server.ebbd, Server.memcached):
            with kind(**options) as server:
                yield server

    def test_a_unix_socket_takes_the_place_of_the_network(self):
        for path in (EBBD, MEMCACHED):
            folder = tempfile.mkdtemp()
            self.addCleanup(shutil.rmtree, folder)
            with Server(path, unix_path=os.path.join(folder, "s"),
                        flags=["-l", "127.0.0.1", "-p", str(free_port()), "-U", str(free_port())]) as server:
                self.assertEqual(server.connect().ask(b"mn"), b"MN")
                self.assertEqual(tcp_ports(server.pid), set(), path)
                if path == EBBD:
                    self.assertIn("-l has no effect", server.stderr())
                    self.assertIn("-U has no effect", server.stderr())

    @unittest.skipUnless(os.geteuid() == 0, "only root becomes somebody else")
    def test_the_unix_socket_and_the_pid_file_belong_to_the_user(self):
        nobody = pwd.getpwnam("nobody")
        for path in (EBBD, MEMCACHED):
            folder = tempfile.mkdtemp()  # where nobody gets to
            self.addCleanup(shutil.rmtree, folder)
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            names = [os.path.join(folder, name) for name in ("s", "pid")]
            with Server(path, unix_path=names[0], flags=["-u", "nobody", "-a", "770", "-P", names[1]]) as server:
                until = time.monotonic() + START_SECONDS_MAX
                while not os.path.exists(names[1]):  # memcached writes it when it serves already
                    self.assertLess(time.monotonic(), until)
                    time.sleep(0.01)
                self.assertEqual([os.stat(name).st_uid for name in names], [nobody.pw_uid] * 2, path)
                self.assertEqual(os.stat(names[0]).st_mode & 0o777, 0o770)
            if path == EBBD:
                self.assertEqual(os.listdir(folder), [])

    @unittest.skipUnless(os.geteuid() == 0, "only root may leave a socket of another's")
    def test_a_socket_that_a_kill_left_behind_is_replaced(self):
        for path in (EBBD, MEMCACHED):
            folder = tempfile.mkdtemp()
            self.addCleanup(shutil.rmtree, folder)
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            flags, unix = ["-u", "nobody"], os.path.join(folder, "s")
            first = Server(path, unix_path=unix, flags=flags)
            first.kill()
            self.assertTrue(os.path.exists(unix))
            with Server(path, unix_path=unix, flags=flags) as server:
                self.assertEqual(server.connect().ask(b"mn"), b"MN")

    def test_no_tcp_port_with_p_0_and_a_udp_port(self):
        datagram = b"\0\1\0\0\0\1\0\0version\r\n"
        for path in (EBBD, MEMCACHED):
            port = free_port()
            child = subprocess.Popen([path, *AS_ROOT, "-l", "127.0.0.1", "-p", "0", "-U", str(port)], stderr=subprocess.DEVNULL,
                                     preexec_fn=_die_with_parent)
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.settimeout(0.1)
                    until, answer = time.monotonic() + START_SECONDS_MAX, b""
                    while not answer:
                        self.assertLess(time.monotonic(), until, path)
                        try:
                            sock.sendto(datagram, ("127.0.0.1", port))
                            answer = sock.recv(100)
                        except (TimeoutError, ConnectionRefusedError):
                            pass
                self.assertIn(b"VERSION", answer)
                self.assertEqual(tcp_ports(child.pid), set(), path)
            finally:
                child.send_signal(signal.SIGTERM)
                child.wait(STOP_SECONDS_MAX)

    def test_lists_of_addresses_as_memcached_splits_them(self):
        for server in self.both(flags=["-l", "127.0.0.2;127.0.0.3,,127.0.0.4,"]):
            for last in range(1, 5):
                peer = Peer(socket.create_connection((f"127.0.0.{last}", server.port), REPLY_SECONDS_MAX))
                self.assertEqual(peer.ask(b"mn"), b"MN")
                peer.close()

    def test_only_ipv6(self):
        for path in (EBBD, MEMCACHED):
            port = free_port()
            with Server(path, flags=["-l", f"[::1]:{port}"]) as server:
                peer = Peer(socket.create_connection(("::1", port), REPLY_SECONDS_MAX))
                self.assertEqual(peer.ask(b"mn"), b"MN")
                peer.close()
                self.assertEqual(tcp_ports(server.pid), {port, server.port})

    def test_more_threads_than_there_can_be_are_cut(self):
        with Server.ebbd(flags=["-t", "64"]) as server:
            self.assertEqual(server.connect().stats()["threads"], "48")
            self.assertIn("48 worker threads instead of 64", server.stderr())


class Effects(unittest.TestCase):
    def fill(self, server, count):
        """So many connections, once the daemon has noticed the end of those that looked whether it is up."""
        first = server.connect()
        while first.ask(b"mn") != b"MN":
            first.close()
            first = server.connect()
        while first.stats()["curr_connections"] != "1":
            time.sleep(0.01)
        kept = [first] + [server.connect() for _ in range(count - 1)]
        self.assertEqual([peer.ask(b"mn") for peer in kept], [b"MN"] * count)
        return kept

    def test_idle_connections_are_closed_and_busy_ones_are_not(self):
        with Server.ebbd(flags=["-o", "idle_timeout=2"]) as server:
            idle, half, busy = server.connect(), server.connect(), server.connect()
            half.send(b"set k 0 0 1")
            waiting = [idle, half]
            while waiting:
                self.assertEqual(busy.ask(b"mn"), b"MN")
                time.sleep(0.2)
                for peer in list(waiting):
                    peer.sock.settimeout(0.01)
                    try:
                        self.assertEqual(peer.sock.recv(1), b"")
                        waiting.remove(peer)
                    except TimeoutError:
                        pass
            self.assertEqual(busy.ask(b"mn"), b"MN")
            self.assertEqual(busy.stats()["idle_kicks"], "2")

    def test_who_is_inside_a_transfer_is_not_idle(self):
        """However long it pauses: each time a connection that came later is closed, that has been for longer than allowed."""
        size = 12 << 20  # more than the kernel's buffers hold
        for kind in (Server.ebbd, Server.memcached):
            with kind(flags=["-o", "idle_timeout=2", "-I", "16m", "-m", "128"]) as server:
                def pause():
                    idle = server.connect()
                    self.assertTrue(idle.closed())
                    idle.close()
                giver = server.connect()
                giver.send(b"set k 0 0 %d\r\n" % size + b"x" * (size // 2))
                pause()
                giver.send(b"x" * (size - size // 2) + b"\r\n")
                self.assertEqual(giver.line(), b"STORED\r\n")
                giver.close()
                taker = server.connect(receive_buffer=4096)
                taker.send(b"get k\r\n")
                head = taker.line()
                pause()
                self.assertEqual((head, taker.read(size // 2)), (b"VALUE k 0 %d\r\n" % size, b"x" * (size // 2)))
                pause()
                self.assertEqual(taker.read(size - size // 2 + 7), b"x" * (size - size // 2) + b"\r\nEND\r\n")
                if kind is Server.ebbd:
                    self.assertEqual(taker.ask(b"mn"), b"MN")
                    # All is sent, the kernel has it.
                    late = server.connect(receive_buffer=4096)
                    self.assertEqual(late.set(b"some", b"x" * 100000), b"STORED")
                    late.send(b"get some\r\n")
                    pause()
                    self.assertEqual(late.line(), b"VALUE some 0 100000\r\n")
                    pause()
                    self.assertEqual(late.read(100007), b"x" * 100000 + b"\r\nEND\r\n")
                    self.assertEqual(late.ask(b"mn"), b"MN")
                    late.close()
                taker.close()

    def test_above_the_limit_a_connection_is_told_and_closed(self):
        with Server.ebbd(flags=["-c", "4"]) as server:
            kept = self.fill(server, 4)
            fifth = server.connect()
            self.assertEqual(fifth.line(), b"ERROR Too many open connections\r\n")
            self.assertTrue(fifth.closed())
            self.assertEqual(kept[0].stats()["rejected_connections"], "1")
            kept.pop().close()
            while True:  # until the daemon has noticed
                again = server.connect()
                again.send(b"mn\r\n")
                if again.line() == b"MN\r\n":
                    break

    def test_above_the_limit_a_connection_waits_when_told_so(self):
        with Server.ebbd(flags=["-c", "4", "-o", "no_maxconns_fast"]) as server:
            kept = self.fill(server, 4)
            fifth = server.connect()
            fifth.send(b"mn\r\n")
            self.assertEqual(kept[0].stats()["accepting_conns"], "0")
            self.assertEqual(kept[0].stats()["listen_disabled_num"], "1")
            kept.pop().close()
            self.assertEqual(fifth.line(), b"MN\r\n")

    def test_several_addresses_with_ports_of_their_own(self):
        with Server.ebbd(flags=["-l", "127.0.0.2:0,[::1]:0", "-l", "127.0.0.3"]) as server:
            ports = re.search(r"serves on (.*); memory", server.stderr()).group(1)
            found = [int(p) for p in re.findall(r"port (\d+)", ports)]
            self.assertEqual(len(found), 4, ports)
            for host, port in (("127.0.0.2", found[1]), ("::1", found[2]), ("127.0.0.3", server.port)):
                peer = Peer(socket.create_connection((host, port), REPLY_SECONDS_MAX))
                self.assertEqual(peer.ask(b"mn"), b"MN", host)
                peer.close()

    def test_the_protocol_may_be_settled(self):
        noop, answer = b"\x80\x0a" + bytes(22), b"\x81\x0a" + bytes(22)
        with Server.ebbd() as server:
            peer = server.connect()
            peer.send(noop)
            self.assertEqual(peer.read(24), answer)
        with Server.ebbd(flags=["-B", "ascii"]) as server:
            peer = server.connect()
            peer.send(noop + b"\r\n")
            self.assertEqual(peer.line(), b"CLIENT_ERROR bad command line format\r\n")  # a line of one letter

    def test_few_requests_per_event_still_answer_all(self):
        with Server.ebbd(flags=["-R", "1"]) as server:
            peer = server.connect()
            peer.send(b"mn\r\n" * 1000)
            self.assertEqual(peer.read(4000), b"MN\r\n" * 1000)


if __name__ == "__main__":
    unittest.main()
