"""daemons -- a daemon under torture: started with the shim, talked to by clients that check every byte, looked at from
outside.

1. What was acknowledged is read back exact, or is a miss. What was cut before its acknowledgement may be the old, the new
   or a miss.
2. A reply answers its own request: a connection that a fault hits ends, but nothing on it is shifted.
3. Nothing here waits for time: each wait is for an event, and has a limit that only a daemon that hangs reaches.
"""
import ctypes
import glob
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import closing

from shim import LIBRARY, SOURCE, Page

sys.path.insert(0, os.path.join(SOURCE, "tests/e2e"))
from servers import EBBD, Peer, ServerError, free_port, test_folder  # noqa: E402

ECHO = os.environ.get("EBB_ECHO", os.path.join(SOURCE, "build/deploy/bin/echo"))
MISTAKES = os.environ.get("EBB_FAULT_MISTAKES", "")  # a library that makes some: to see that they are seen
PATIENCE_SECONDS = 20
QUIET_WINDOW_SECONDS = 0.03
BUSY_SHARE = 0.5
LARGE_BYTES = 200000
PAGES = ("/metrics", "/healthz", "/debug/heap", "/debug/resources", "/debug/leaks", "/debug/heap.heapsnapshot")
BUG = re.compile(r"panic|assert|misuse|forgotten|Sanitizer|runtime error")
LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\dT")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

_libc = ctypes.CDLL(None)


class Ill(Exception):
    """What is not well, in words."""


class Cut(Exception):
    """The connection ended in the middle: a fault may do that, and nothing else."""


def adopt_orphans():
    """What goes into the background becomes a child of ours, whose exit status we hear."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def until(condition, what):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise Ill(what() if callable(what) else what)
        time.sleep(0.002)


def read_or(path, otherwise=""):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return otherwise


class Daemon:
    """One process, or none. Subclasses say how it is started and what is asked of it."""
    name = program = ""
    background = False

    def __init__(self, folder):
        self.folder = folder
        self.page = Page(os.path.join(folder, "page"))
        self.pid = self.status = None
        self.admin_port = 0
        self.round = 0

    # --- its life

    def words(self):
        raise NotImplementedError

    def spawn(self):
        for path in glob.glob(os.path.join(self.folder, "run*")):
            os.unlink(path)
        self.status = None
        self.admin_port = free_port()
        environment = {**os.environ, "LD_PRELOAD": f"{MISTAKES} {LIBRARY}", "EBB_FAULT": self.page.path}
        with open(self.path("run.out"), "wb") as out, open(self.path("run.err"), "wb") as err:
            started = subprocess.Popen(self.words(), stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.folder,
                                       env=environment, preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        started.returncode = 0  # its status is ours to hear
        self.pid = self.first_pid = started.pid

    def path(self, name):
        return os.path.join(self.folder, name)

    def log(self):
        return read_or(self.path("run.log"))

    def said(self):
        return read_or(self.path("run.err"))

    def alive(self):
        if self.status is None and self.pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.pid is not None and self.status is None

    def check_alive(self):
        if not self.alive():
            raise Ill(f"the daemon ended with {self.status}: {self.last_words()}")
        bad = BUG.search(self.log() + self.said())
        if bad:
            raise Ill(f"the log tells of a bug: {self.last_words()}")

    def last_words(self):
        lines = [line for line in (self.said() + self.log()).splitlines() if BUG.search(line)]
        return (lines or self.said().splitlines()[-1:] or ["(nothing said)"])[0]

    def start(self, listens=lambda: None):
        """True once it serves; False when the start was refused, as it should be. listens(): called when a client can
        connect, which is before it is answered."""
        for _ in range(8):
            self.spawn()
            if self.wait_for_start(listens):
                return True
            if " in use by another" not in self.said() or (self.page.armed and self.page.armed[0].answer == "EADDRINUSE"):
                return False
            self.page.arm_again()
        raise Ill("no free port in 8 tries")

    def wait_for_start(self, listens):
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if not self.alive():
                if not (self.background and self.status == 0):
                    return False
                self.find_background()
            if self.answers(listens):
                if self.background and self.pid == self.first_pid:
                    until(lambda: not self.alive(), "it serves, but the start does not return")
                    if self.status != 0:
                        raise Ill(f"it serves, but the start says {self.status}")
                    self.find_background()
                return True
            time.sleep(0.002)
        raise Ill("neither serves nor ends")

    def find_background(self):
        """The parent said 0: so the child serves, and its pid is in the file."""
        children = children_of(os.getpid())
        if len(children) != 1:
            raise Ill(f"the start said 0, and {len(children)} processes are there")
        self.pid, self.status = children[0], None
        if read_or(self.path("run.pid")).strip() != str(self.pid):
            raise Ill(f"the pid file says {read_or(self.path('run.pid'))!r}, not {self.pid}")

    def check_refused(self):
        lines = self.said().splitlines()
        if self.status is None or self.status <= 0:
            raise Ill(f"the start ended with {self.status}: {lines[-1:]}")
        if len([line for line in lines if not LOG_LINE.match(line)]) != 1:
            raise Ill(f"a refused start says one line, not {lines}")
        if BUG.search(self.said()):
            raise Ill(f"a refused start tells of a bug: {lines}")
        left = children_of(os.getpid())
        if left:
            raise Ill(f"a refused start leaves processes: {left}")
        for name in ("run.pid", "run.sock"):
            if os.path.exists(self.path(name)):
                raise Ill(f"a refused start leaves {name} ({read_or(self.path(name))!r})")

    def end(self, finish=None):
        """SIGTERM, and the end proves itself. finish(): what clients do then."""
        if not self.alive():
            self.check_alive()
        os.kill(self.pid, signal.SIGTERM)
        if finish:
            finish()
        until(lambda: not self.alive(), "SIGTERM does not end it")
        if self.status != 0:
            told = [line for line in (self.log() + self.said()).splitlines() if " WARN" in line or " ERROR" in line]
            raise Ill(f"the end says {self.status}: {(told or [self.last_words()])[-1]}")
        if BUG.search(self.log() + self.said()):
            raise Ill(f"the end tells of a bug: {self.last_words()}")
        if read_or(self.path("run.pid")):
            raise Ill("the end leaves the pid file")

    def kill(self):
        """Whatever is there is gone after this."""
        for pid in children_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.pid = None

    # --- how it looks from outside

    def descriptors(self):
        """What is open, without the numbers that name each socket."""
        links = []
        for path in glob.glob(f"/proc/{self.pid}/fd/*"):
            try:
                links.append(re.sub(r"\[\d+\]", "", os.readlink(path)))
            except OSError:
                pass
        return sorted(links)

    def busy(self):
        """Nanoseconds that each thread ran or waited for a processor, and how many children there are."""
        times = {}
        for task in glob.glob(f"/proc/{self.pid}/task/*"):
            words = read_or(task + "/schedstat").split()
            if words:
                times[task] = int(words[0]) + int(words[1])
        return times, len(children_of(self.pid))

    def is_quiet(self):
        """No thread would run for most of the time, however loaded the machine is, and no child is at work."""
        before, start = self.busy()[0], time.monotonic_ns()
        time.sleep(QUIET_WINDOW_SECONDS)
        (after, children), spent = self.busy(), time.monotonic_ns() - start
        return children == 0 and all(after[task] - before.get(task, after[task]) < spent * BUSY_SHARE for task in after)

    def settle(self):
        until(lambda: self.is_quiet() or not self.alive(), lambda: f"it does not become quiet: {self.busy()}")
        self.check_alive()

    def settle_descriptors(self, before):
        """Open is what was open before; a socket may be missing: a connection that was just ending then."""
        def changed():
            now = self.descriptors()
            return ([f"+{link}" for link in less(now, before)] +
                    [f"-{link}" for link in less(before, now) if link != "socket:"])
        until(lambda: not changed() or not self.alive(), lambda: f"other descriptors than before: {changed()}")

    # --- what is asked of it

    def connect(self):
        raise NotImplementedError

    def answers(self, connected):
        raise NotImplementedError

    def talk(self):
        """A round: whatever is asked of it in service. Cut connections are no matter here."""
        raise NotImplementedError

    def verify(self):
        """After a round, with no fault any more: everything works, and what was acknowledged is there."""
        raise NotImplementedError

    def burst(self, over):
        """Many clients at once, while calls fail; over() ends the faults."""
        raise NotImplementedError

    def begin_end(self):
        """Connections that are there when it ends, and what clients do on them after SIGTERM."""
        peers = [self.connect(), self.connect()]
        return peers, lambda: None

    def fetch(self, page):
        """A page of the admin address: whole, refused in whole, or the connection is cut."""
        with socket.create_connection(("127.0.0.1", self.admin_port), PATIENCE_SECONDS) as peer:
            peer.sendall(f"GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while piece := peer.recv(1 << 18):
                answer += piece
        if not answer:
            raise Cut(page)
        head, separator, body = answer.partition(b"\r\n\r\n")
        if not re.match(rb"HTTP/1\.1 (200|503) ", head) and not (answer.startswith(b"HTTP/1.1 "[:len(answer)]) and not separator):
            raise Ill(f"GET {page}: {answer[:80]!r}")
        length = re.search(rb"Content-Length: (\d+)", head)
        whole = len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")
        if not separator or not whole:
            raise Cut(page)
        return int(head.split()[1]), body

    def fetch_all(self):
        for page in PAGES:
            allowing_cuts(self.fetch, page)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            if self.alive():
                os.kill(self.pid, number)
        self.settle()

    def fetch_whole(self, page):
        """Without a fault the page comes; alarms may be up."""
        try:
            status, body = self.fetch(page)
        except (Cut, OSError) as cut:
            raise Ill(f"GET {page} fails after the fault is over: {cut!r}") from cut
        return status, body


def less(links, others):
    """Those of links that are not among the others, each as often as it is there."""
    rest = list(links)
    for link in others:
        if link in rest:
            rest.remove(link)
    return rest


def children_of(pid):
    found = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        found += [int(word) for word in read_or(path).split()]
    return found


def allowing_cuts(fn, *arguments):
    """True unless the connection was cut."""
    try:
        fn(*arguments)
        return True
    except TimeoutError as late:
        raise Ill(f"no answer in {PATIENCE_SECONDS} s to {fn.__name__} {arguments}") from late
    except (Cut, ConnectionError):
        return False
    except ServerError as error:
        if str(error).startswith("closed after"):
            return False
        raise Ill(str(error)) from error


class Cache(Daemon):
    """ebbd."""
    name, program = "ebbd", EBBD
    unix = False

    def __init__(self, folder):
        super().__init__(folder)
        self.held = {}  # key -> values that it may have, beside a miss

    def words(self):
        self.port = free_port()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        where = ["-s", self.path("run.sock")] if self.unix else ["-l", "127.0.0.1", "-p", str(self.port), "-U", str(self.port)]
        files = ["-P", self.path("run.pid"), "--log-file", self.path("run.log"), "--heap-trace", self.path("run.csv"),
                 "--leak-report", self.path("run.leaks")]
        self.held = {}
        return ([self.program, *user, *where, *files, "-m", "8", "-t", "2", "--admin", f"127.0.0.1:{self.admin_port}"] +
                (["-d"] if self.background else []))

    def connect(self):
        peer = socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET)
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(self.path("run.sock") if self.unix else ("127.0.0.1", self.port))
        return Peer(peer)

    def answers(self, connected):
        try:
            peer = self.connect()
        except OSError:
            return False
        connected()
        try:
            pid = int(peer.stats()["pid"])  # another's daemon may have the port
            return pid in (self.pid, *children_of(self.pid), *children_of(os.getpid()))
        except (OSError, ServerError, KeyError):
            return False
        finally:
            peer.close()

    # --- values that prove themselves

    def value(self, key, size=100):
        self.round += 1
        head = b"%s:%d:" % (key, self.round)
        return head + bytes(97 + self.round % 26 for _ in range(1)) * (size - len(head))

    def offer(self, key, value):
        self.held.setdefault(key, set()).add(value)

    def acknowledged(self, key, value, reply):
        if reply in (b"STORED", b"HD"):
            self.held[key] = {value}
        elif not reply.startswith(b"SERVER_ERROR out of memory"):
            raise Ill(f"set {key.decode()}: {reply!r}")

    def check(self, key, value):
        if value is not None and value not in self.held.get(key, ()):
            raise Ill(f"{key.decode()} has a value it never had: {value[:60]!r}")

    def talk_text(self):
        """Sets, then gets in one write: each reply in its place."""
        with closing(self.connect()) as peer:
            pairs = [(b"k%d" % i, self.value(b"k%d" % i)) for i in range(4)]
            for key, value in pairs:
                self.offer(key, value)
            peer.send(b"".join(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value) for key, value in pairs))
            for key, value in pairs:
                self.acknowledged(key, value, peer.line().rstrip())
            peer.send(b"".join(b"mg %s k v O%s\r\n" % (key, key[1:]) for key, _ in pairs) + b"mn\r\n")
            for key, _ in pairs:
                self.check(key, self.meta_value(peer, key))
            if peer.line() != b"MN\r\n":
                raise Ill("mn is not answered in its place")
            for key, _ in pairs:
                self.check(key, peer.get(key))

    @staticmethod
    def meta_value(peer, key):
        words = peer.line().split()
        if words == [b"EN"]:
            return None
        if words[0] != b"VA" or b"k" + key not in words or b"O" + key[1:] not in words:
            raise Ill(f"mg {key.decode()}: {words}")
        return peer.read(int(words[1]) + 2)[:-2]

    def talk_counter(self):
        """Arithmetic, deletion and what joins."""
        with closing(self.connect()) as peer:
            key = b"n%d" % self.round
            self.offer(key, b"5")
            self.acknowledged(key, b"5", peer.set(key, b"5"))
            self.offer(key, b"7")
            if peer.ask(b"incr %s 2" % key) == b"7":
                self.held[key] = {b"7"}
            self.offer(key, b"7x")
            if peer.ask(b"append %s 0 0 1\r\nx" % key) == b"STORED":
                self.held[key] = {b"7x"}
            if peer.ask(b"delete %s" % key) in (b"DELETED", b"NOT_FOUND"):
                self.held.pop(key)

    def talk_large(self):
        """A value of many reads and writes, asked for twice before the first is taken."""
        with closing(self.connect()) as peer:
            key, value = b"large", self.value(b"large", LARGE_BYTES)
            self.offer(key, value)
            self.acknowledged(key, value, peer.set(key, value))
            peer.send(b"get large\r\nget large\r\n")
            for _ in range(2):
                head = peer.line().split()
                if head != [b"END"]:
                    self.check(key, peer.read(int(head[3]) + 2)[:-2])
                    peer.line()

    def talk_binary(self):
        with closing(self.connect()) as peer:
            key, value = b"k9", self.value(b"k9")
            self.offer(key, value)
            peer.send(struct.pack(">BBHBBHIIQII", 0x80, 1, 2, 8, 0, 0, 10 + len(value), 11, 0, 0, 0) + key + value +
                      struct.pack(">BBHBBHIIQ", 0x80, 0, 2, 0, 0, 0, 2, 12, 0) + key)
            for opaque in (11, 12):
                head = struct.unpack(">BBHBBHIIQ", peer.read(24))
                body = peer.read(head[6])
                if head[0] != 0x81 or head[7] != opaque:
                    raise Ill(f"binary reply {head} to request {opaque}")
                if opaque == 11 and head[5] == 0:
                    self.held[key] = {value}
                if opaque == 12 and head[5] == 0:
                    self.check(key, body[4:])

    def talk_datagram(self):
        """A datagram may be lost; one that comes answers its own request."""
        if self.unix:
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            number = self.round % 60000
            peer.connect(("127.0.0.1", self.port))
            peer.send(struct.pack(">HHHH", number, 0, 1, 0) + b"get k1\r\n")
            peer.settimeout(0.02)
            for _ in range(50):
                try:
                    answer = peer.recv(65536)
                    if struct.unpack(">HHHH", answer[:8])[0] != number:
                        raise Ill(f"a datagram for another: {answer[:8]!r}")
                    return
                except TimeoutError:
                    if self.page.failed:
                        return
        raise Ill("a datagram without fault is not answered")

    def talk_streams(self):
        """Answers that go on: a watcher beside one who stores, and dumps."""
        with closing(self.connect()) as watcher, closing(self.connect()) as peer:
            if watcher.ask(b"watch mutations") not in (b"OK", b"SERVER_ERROR out of memory"):
                raise Ill("watch is refused")
            for dump, line in ((b"lru_crawler metadump all", b"key="), (b"lru_crawler mgdump all", b"mg ")):
                answer = peer.ask(dump)
                while answer == b"OK" or answer.startswith(line):
                    answer = peer.line().rstrip()
                if answer not in (b"END", b"EN") and not answer.startswith(b"SERVER_ERROR"):
                    raise Ill(f"{dump.decode()}: {answer!r}")
            value = self.value(b"k3")
            self.offer(b"k3", value)
            self.acknowledged(b"k3", value, peer.set(b"k3", value))
            self.check(b"k3", peer.get(b"k3"))

    def talk_half(self):
        """A client that goes in the middle of a value: what it did not send whole is not stored."""
        with closing(self.connect()) as peer:
            peer.send(b"set k2 0 0 1000\r\nabc")

    def talk(self):
        whole = True
        for part in (self.talk_text, self.talk_counter, self.talk_large, self.talk_binary, self.talk_datagram, self.talk_streams,
                     self.talk_half):
            whole &= allowing_cuts(part)
        if not whole and not self.page.failed and self.alive():
            raise Ill("a connection was cut without a fault")
        self.fetch_all()

    def verify(self):
        self.check_alive()
        peer = self.connect()
        try:
            for key in list(self.held):
                value = peer.get(key)
                self.check(key, value)
                self.held[key] = {value} if value is not None else set()
            fresh = self.value(b"fresh")
            if peer.set(b"fresh", fresh) != b"STORED" or peer.get(b"fresh") != fresh:
                raise Ill("a set and a get after the fault do not work")
            stats = peer.stats()
            if int(stats["curr_items"]) < 1:
                raise Ill(f"curr_items {stats['curr_items']} with an item")
        except (OSError, ServerError, KeyError, ValueError) as error:
            raise Ill(f"after the fault is over: {error!r}") from error
        finally:
            peer.close()
        status, _ = self.fetch_whole("/readyz")
        if status != 200:
            raise Ill(f"/readyz says {status}")

    def burst(self, over):
        peers = []
        for number in range(24):
            try:
                peers.append((number, self.connect()))
            except OSError:
                continue
        for number, peer in peers:
            key, value = b"b%d" % number, self.value(b"b%d" % number, 20000)
            self.offer(key, value)
            try:
                peer.send(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value) + b"mg %s k v O%s\r\n" % (key, key[1:]) * 8)
            except OSError:
                pass
            if number % 6 == 5:
                peer.close()
        for number in (signal.SIGHUP, signal.SIGUSR1):
            if self.alive():
                os.kill(self.pid, number)
        self.is_quiet()  # the faults have their time
        over()
        for number, peer in peers:
            if number % 6 != 5:
                allowing_cuts(self.read_burst, number, peer)
                peer.close()
        self.settle()

    def read_burst(self, number, peer):
        key = b"b%d" % number
        reply = peer.line().rstrip()
        if not reply.startswith(b"SERVER_ERROR") and reply != b"STORED":
            raise Ill(f"set {key.decode()} in a burst: {reply!r}")
        for _ in range(8):
            self.check(key, self.meta_value(peer, key))

    def begin_end(self):
        peers, _ = super().begin_end()
        peers[0].send(b"set half 0 0 6\r\nabc")
        return peers, lambda: allowing_cuts(self.finish_half, peers[0])

    def finish_half(self, peer):
        """A request that is begun is carried out."""
        peer.send(b"def\r\n")
        self.acknowledged(b"half", b"abcdef", peer.line().rstrip())


class CacheInBackground(Cache):
    background = True


class CacheOnUnixSocket(Cache):
    unix = True


class Echo(Daemon):
    """The example of libebb."""
    name, program = "echo", ECHO

    def words(self):
        return [self.program, "--port", "0", "--admin", f"127.0.0.1:{self.admin_port}"]

    def connect(self):
        found = re.search(r":(\d+)\n", read_or(self.path("run.out")))
        if not found:
            raise ConnectionRefusedError("it does not listen yet")
        peer = socket.create_connection(("127.0.0.1", int(found[1])), PATIENCE_SECONDS)
        peer.settimeout(PATIENCE_SECONDS)
        return Peer(peer)

    def line(self, size=100):
        self.round += 1
        return b"%d:" % self.round + b"x" * size + b"\n"

    def say(self, peer, line):
        peer.send(line)
        answer = peer.line()
        if answer != line:
            raise Ill(f"{line!r} comes back as {answer!r}")

    def answers(self, connected):
        try:
            with closing(self.connect()) as peer:
                connected()
                self.say(peer, b"there?\n")
            return True
        except (OSError, ServerError):
            return False

    def talk_lines(self):
        with closing(self.connect()) as peer:
            for _ in range(3):
                self.say(peer, self.line())

    def talk(self):
        whole = [allowing_cuts(self.talk_lines) for _ in range(3)]
        if not all(whole) and not self.page.failed and self.alive():
            raise Ill("a connection was cut without a fault")
        self.fetch_all()

    def verify(self):
        self.check_alive()
        if not allowing_cuts(self.talk_lines):
            raise Ill("a connection is cut after the fault is over")
        self.fetch_whole("/metrics")

    def burst(self, over):
        peers = []
        for _ in range(24):
            try:
                peers.append((self.connect(), self.line(3000)))
                peers[-1][0].send(peers[-1][1])
            except OSError:
                continue
        self.is_quiet()
        over()
        for peer, line in peers:
            allowing_cuts(self.read_burst, peer, line)
            peer.close()
        self.settle()

    @staticmethod
    def read_burst(peer, line):
        answer = peer.line()
        if answer != line:
            raise Ill(f"{line[:20]!r} comes back as {answer[:40]!r}")
