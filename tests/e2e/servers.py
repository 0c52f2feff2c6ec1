#!/usr/bin/python3
"""servers -- starts a real ebbd (or memcached) for a test, and proves that it ended well.

    with Server.ebbd(flags=["-m", "64"], admin=True) as server:
        peer = server.connect()

1. A server never outlives the test: it is stopped by its pid on every way out, and the kernel kills it when the test
   itself is killed.
2. Stopping is part of the test: SIGTERM, then exit status 0, and nothing in the log that tells of a bug.
3. Every server has a folder of its own below the test folder, where its stderr stays for the reader.

Environment: EBB_EBBD the daemon under test (a memcached is accepted too: that tests the test);
EBB_MEMCACHED the oracle; EBB_TEST_DIR where folders go; EBB_TEST_SCALE factor on counts (0.1 under sanitizers).
"""
import ctypes
import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
REPLY_SECONDS_MAX = 30
PORT_TRIES = 8
PR_SET_PDEATHSIG = 1

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EBBD = os.path.abspath(os.environ.get("EBB_EBBD", os.path.join(SOURCE, "build/deploy/bin/ebbd")))
MEMCACHED = os.environ.get("EBB_MEMCACHED", "/usr/bin/memcached")
PLANT = os.environ.get("EBB_PLANT_LIBRARY", os.path.join(SOURCE, "build/deploy/tests/e2e/libplant.so"))
SCALE = float(os.environ.get("EBB_TEST_SCALE", "1"))

# Lines of ebbd's log that no test may cause. The words of options ("leak-detect", "leak watch") are not findings.
BAD_LOG = re.compile(
    r"(?<!no )(?<!\b0 )\bleak(s|ed)?\b(?! 0\b)(?![-_ ](detect|watch|check))|\bpanic|\bforgotten\b|\bmisuse|assert"
    r"|Sanitizer|runtime error|GC Warning", re.IGNORECASE)

PLACE = re.compile(r"\w+ \(\w+\.c:\d+\)")  # a stack may lead through leaks.c without a leak

_libc = ctypes.CDLL(None)


def scaled(count, least=1):
    """A count of work for this build: smaller where everything is slow."""
    return max(least, int(count * SCALE))


def is_memcached(path):
    return "memcached" in os.path.basename(path)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_folder(prefix):
    root = os.environ.get("EBB_TEST_DIR") or os.path.join(tempfile.gettempdir(), "ebb-tests")
    os.makedirs(root, exist_ok=True)
    return tempfile.mkdtemp(prefix=prefix + "-", dir=root)


def npm_folder(*packages):
    """A folder with these packages in node_modules: installed once by npm, for all who test."""
    name = re.sub(r"\W+", "-", " ".join(packages))
    folder = os.path.join(os.environ.get("EBB_TEST_DIR", "/tmp/ebb-tests"), "npm" + name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = os.path.join(folder, "done")
        if not os.path.exists(done):
            subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder, *packages],
                           check=True, timeout=240, stdout=subprocess.DEVNULL)
            open(done, "w").close()
    return folder


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerError(AssertionError):
    pass


class Peer:
    """A client connection in raw bytes."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data)

    def fill(self):
        piece = self.sock.recv(1 << 18)
        self.buffer += piece
        return bool(piece)

    def read(self, count):
        while len(self.buffer) < count:
            if not self.fill():
                raise ServerError(f"closed after {self.buffer!r}, {count} bytes were due")
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out

    def line(self):
        while b"\n" not in self.buffer:
            if not self.fill():
                raise ServerError(f"closed after {self.buffer!r}, a line was due")
        out, self.buffer = self.buffer.split(b"\n", 1)
        return out + b"\n"

    def ask(self, data):
        """Sends one command line (CRLF is added), returns its one reply line without CRLF."""
        self.send(data + b"\r\n")
        return self.line().rstrip(b"\r\n")

    def set(self, key, value, ttl=0, flags=0):
        return self.ask(b"set %s %d %d %d\r\n%s" % (key, flags, ttl, len(value), value))

    def get(self, key):
        """The value, or None for a miss."""
        self.send(b"get %s\r\n" % key)
        head = self.line()
        if head == b"END\r\n":
            return None
        value = self.read(int(head.split()[3]) + 2)[:-2]
        if self.line() != b"END\r\n":
            raise ServerError("a value without END")
        return value

    def stats(self, *words):
        self.send(b" ".join((b"stats",) + words) + b"\r\n")
        out = {}
        while True:
            line = self.line().rstrip(b"\r\n").decode()
            if line == "END":
                return out
            if not line.startswith("STAT "):
                raise ServerError(f"stats said {line!r}")
            _, name, value = line.split(" ", 2)
            out[name] = value

    def closed(self):
        """True when the peer closed and nothing more came."""
        try:
            while self.fill():
                pass
        except ConnectionResetError:
            pass
        return self.buffer == b""

    def close(self):
        self.sock.close()


class Server:
    """One running daemon. flags: further command line words; environment: further variables."""

    def __init__(self, path, flags=(), admin=False, folder=None, unix_path=None, name=None, environment=()):
        self.path = path
        self.environment = {**os.environ, **dict(environment)}
        self.oracle = is_memcached(path)
        self.flags = list(flags)
        self.name = name or os.path.basename(path)
        self.folder = folder or test_folder(self.name)
        self.unix_path = unix_path
        self.admin = admin and not self.oracle
        self.admin_port = 0
        self.port = 0
        self.process = None
        self.stderr_path = os.path.join(self.folder, "stderr")
        self._start()

    @classmethod
    def ebbd(cls, **options):
        return cls(EBBD, **options)

    @classmethod
    def planted(cls, mistakes, **options):
        """An ebbd that makes these mistakes at each connection, words of plant.c; plant() changes them."""
        folder = test_folder("planted")
        with open(os.path.join(folder, "mistakes"), "w") as file:
            file.write(mistakes)
        # The sanitizer wants to be first; it works all the same.
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        return cls.ebbd(folder=folder, environment={"LD_PRELOAD": PLANT, "EBB_PLANT": file.name, "ASAN_OPTIONS": sanitizer}, **options)

    def plant(self, mistakes):
        with open(self.environment["EBB_PLANT"], "w") as file:
            file.write(mistakes)

    @classmethod
    def memcached(cls, **options):
        return cls(MEMCACHED, **options)

    def restart(self):
        """Ends it and starts it anew at the same place: connections are gone, and so is what was stored."""
        self.stop()
        self._start(again=True)

    def _words(self, again=False):
        words = [self.path] + (["-u", "root"] if os.geteuid() == 0 else [])
        if self.unix_path:
            words += ["-s", self.unix_path]
        else:
            self.port = self.port if again else free_port()
            words += ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0"]
        if self.admin:
            self.admin_port = self.admin_port if again else free_port()
            words += ["--admin", f"127.0.0.1:{self.admin_port}"]
        return words + self.flags

    def _start(self, again=False):
        for _ in range(PORT_TRIES):
            with open(self.stderr_path, "wb") as err:
                self.process = subprocess.Popen(self._words(again), stdin=subprocess.DEVNULL, stdout=err, stderr=err,
                                                cwd=self.folder, env=self.environment, preexec_fn=_die_with_parent)
            try:
                if self._wait():
                    return
            except BaseException:
                self.kill()
                raise
            clash = re.search(r"in use", self.stderr(), re.IGNORECASE)
            if not clash:
                raise ServerError(f"{self.name} ended with {self.process.returncode} at start:\n{self.stderr()}")
        raise ServerError(f"{self.name}: no free port in {PORT_TRIES} tries")

    def _wait(self):
        """True once the server answers, False when it ended."""
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return False
            try:
                peer = self.connect()
            except OSError:
                time.sleep(0.01)
                continue
            try:
                if peer.ask(b"version").startswith(b"VERSION") and self.process.poll() is None:
                    return True
            finally:
                peer.close()
        self.kill()
        raise ServerError(f"{self.name} did not answer in {START_SECONDS_MAX} s:\n{self.stderr()}")

    @property
    def pid(self):
        return self.process.pid

    def connect(self, receive_buffer=None):
        family = socket.AF_UNIX if self.unix_path else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(REPLY_SECONDS_MAX)
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if not self.unix_path:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(self.unix_path or ("127.0.0.1", self.port))
        except BaseException:
            sock.close()
            raise
        return Peer(sock)

    def stderr(self):
        with open(self.stderr_path, "r", errors="replace") as file:
            return file.read()

    def page(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=REPLY_SECONDS_MAX) as reply:
            return reply.read().decode()

    def metrics(self):
        """Samples of /metrics: 'name{labels}' -> number."""
        out = {}
        for line in self.page("/metrics").splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                out[name] = float(value)
        return out

    def descriptors(self):
        return sorted(os.listdir(f"/proc/{self.pid}/fd"), key=int)

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_rss_bytes(self):
        """The most that was ever resident, as the kernel keeps it."""
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """SIGTERM; the exit status must be 0 and the log clean."""
        if self.oracle:
            self.kill()  # its end is not our matter, and it takes a second
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
                raise ServerError(f"{self.name} did not end in {STOP_SECONDS_MAX} s after SIGTERM:\n{self.stderr()}")
        self.check_end()

    def check_end(self):
        if self.process.returncode != 0:
            raise ServerError(f"{self.name} ended with {self.process.returncode}:\n{self.stderr()}")
        bad = [line for line in self.stderr().splitlines() if BAD_LOG.search(PLACE.sub("", line.replace("leaks 0", "")))]
        if bad:
            raise ServerError(f"{self.name}'s log tells of a bug:\n" + "\n".join(bad))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
            return
        ended = self.process.poll()
        self.kill()
        if ended is not None:
            print(f"{self.name} had ended with {ended}; its log:\n{self.stderr()}", flush=True)


def port_is_free(port):
    with socket.socket() as probe:
        try:
            probe.connect(("127.0.0.1", port))
            return False
        except OSError as error:
            return error.errno == errno.ECONNREFUSED
