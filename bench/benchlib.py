"""What the benchmarks share: finding programs, starting and stopping servers, reading what they cost, tables.

1. A server is stopped on every way out: at the end of its `with`, on an exception, on SIGTERM and SIGINT, and by the
   kernel when this process is killed.
2. Servers are stopped by the process that was started, never by name.
"""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
OUT = os.path.join(ROOT, "build", "bench")
MIB = 1 << 20
PR_SET_PDEATHSIG = 1
START_SECONDS = 15
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
_libc = ctypes.CDLL(None, use_errno=True)


def die(message):
    sys.exit(f"bench: {message}")


def binary(name, presets=("deploy", "heap-bench")):
    """The newest way to a program of ours: $EBB_BIN/NAME, else that of the first preset that is built."""
    folders = [os.environ["EBB_BIN"]] if "EBB_BIN" in os.environ else []
    folders += [os.path.join(ROOT, "build", preset, "bin") for preset in presets]
    for folder in folders:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    return None


def tool(name):
    path = binary(name)
    if path is None:
        die(f"{name} is not built; run: cmake --preset deploy && cmake --build --preset deploy")
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def out_path(name):
    os.makedirs(OUT, exist_ok=True)
    return os.path.join(OUT, name)


def write_json(name, data):
    """Writes what was found, and on what a machine: the load of others shows in every latency."""
    path = out_path(name)
    machine = {"processors": os.cpu_count(), "load_average": os.getloadavg(), "kernel": os.uname().release}
    with open(path, "w") as file:
        json.dump({"machine": machine, **data}, file, indent=1)
        file.write("\n")
    return path


def die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """One running cache server. Use it in a `with`."""

    protocol = "memcached"

    def __init__(self, name, command, port, admin_port=None, env=None):
        self.name, self.command, self.port, self.admin_port = name, command, port, admin_port
        self.env, self.process = env, None

    def __enter__(self):
        self.log = open(out_path(f"{self.name}.log"), "w+")
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        preexec_fn=die_with_parent, env=self.env, cwd=OUT)
        self.pid = self.process.pid
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def _wait_until_it_answers(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.log.seek(0)
        die(f"{self.name} did not start: {' '.join(self.command)}\n{self.log.read()[-2000:]}")

    def alive(self):
        return self.process.poll() is None

    # -- what it costs --

    def rss(self):
        """Resident bytes."""
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * PAGE

    def cpu(self):
        """(run time of all its threads in ns, user ticks, system ticks). Ticks are coarse: they only give the split."""
        run_ns = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{task}/schedstat") as file:
                    run_ns += int(file.read().split()[0])
            except FileNotFoundError:
                pass  # a thread that has just ended
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return run_ns, int(fields[11]), int(fields[12])

    # -- what it says --

    def ask(self, request, end, seconds=20):
        """Sends bytes, returns the reply up to and with `end` (a regular expression at its end)."""
        with socket.create_connection(("127.0.0.1", self.port), seconds) as peer:
            peer.sendall(request)
            reply = b""
            while not re.search(end, reply):
                more = peer.recv(65536)
                if not more:
                    break
                reply += more
        return reply

    def stats(self, kind=""):
        """memcached's `stats KIND` as a dictionary of texts."""
        request = f"stats {kind}".strip().encode() + b"\r\n"
        reply = self.ask(request, rb"(END|ERROR|RESET)\r\n$").decode()
        return dict(line.split(" ", 2)[1:] for line in reply.split("\r\n") if line.startswith("STAT "))

    def items(self):
        return int(self.stats().get("curr_items", 0))

    def evictions(self):
        return int(self.stats().get("evictions", 0))

    def set_limit(self, mebibytes):
        self.ask(b"cache_memlimit %d\r\n" % mebibytes, rb"\r\n$")

    def has_meta(self):
        return self.ask(b"mg a-key-that-is-not-there v\r\n", rb"\r\n$").startswith(b"EN")

    def metrics(self):
        """/metrics as a list of (name, labels text, value); empty without an admin address."""
        if self.admin_port is None:
            return []
        with socket.create_connection(("127.0.0.1", self.admin_port), 20) as peer:
            peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = b""
            while more := peer.recv(65536):
                text += more
        rows = []
        for line in text.decode().splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and not line.startswith("#"):
                try:
                    rows.append((found[1], found[2] or "", float(found[3])))
                except ValueError:
                    pass  # an HTTP header
        return rows

    def metric(self, *names):
        """The sum over all labels of the first of these metrics that exists, or None."""
        rows = self.metrics()
        for name in names:
            values = [value for row, _, value in rows if row == name]
            if values:
                return sum(values)
        return None


class Redis(Server):
    protocol = "redis"

    def info(self):
        reply = self.ask(b"*1\r\n$4\r\nINFO\r\n", rb"\r\n\r\n$|\n# Keyspace[^#]*\r\n\r\n$").decode()
        return dict(line.split(":", 1) for line in reply.splitlines() if ":" in line)

    def ask(self, request, end, seconds=20):
        with socket.create_connection(("127.0.0.1", self.port), seconds) as peer:
            peer.sendall(request)
            reply = peer.recv(65536)
            if reply.startswith(b"$"):  # a bulk: read all of it
                head, _, body = reply.partition(b"\r\n")
                while len(body) < int(head[1:]) + 2:
                    body += peer.recv(65536)
                return body
        return reply

    def items(self):
        return int(self.ask(b"*1\r\n$6\r\nDBSIZE\r\n", b"").strip()[1:])

    def evictions(self):
        return int(self.info()["evicted_keys"])


def largest_value(memory_mib):
    """-I: 8 MiB where memcached allows it: at most half the memory."""
    return f"{min(8, max(1, memory_mib // 2))}m"


def ebbd(memory_mib, threads=4, value_max=None, preset=("deploy", "heap-bench"), extra=(), name="ebbd"):
    path = os.environ.get("EBBD") or binary("ebbd", preset)
    if path is None:
        return None
    port, admin = free_port(), free_port()
    command = [path, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", str(memory_mib), "-t", str(threads),
               "-c", "4096", "-I", value_max or largest_value(memory_mib), "--admin", f"127.0.0.1:{admin}", *extra]
    if os.geteuid() == 0:
        command += ["-u", "root"]
    return Server(name, command, port, admin)


def memcached(memory_mib, threads=4, value_max=None, extra=(), name="memcached"):
    path = os.environ.get("MEMCACHED") or shutil.which("memcached")
    if path is None:
        return None
    port = free_port()
    command = [path, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", str(memory_mib), "-t", str(threads),
               "-c", "4096", "-I", value_max or largest_value(memory_mib), *extra]
    if os.geteuid() == 0:
        command += ["-u", "root"]
    return Server(name, command, port)


def redis(memory_mib, policy="allkeys-lru", name="redis"):
    path = shutil.which("redis-server")
    if path is None:
        return None
    port = free_port()
    command = [path, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no",
               "--maxmemory", str(int(memory_mib * MIB)), "--maxmemory-policy", policy]
    return Redis(name, command, port)


def peer(template, memory_mib, threads):
    """Any other server that speaks memcached's protocol: 'NAME=COMMAND with {port} {memory_mib} {threads}'."""
    name, _, command = template.partition("=")
    port = free_port()
    words = command.format(port=port, memory_mib=memory_mib, threads=threads).split()
    if not words:
        die(f"--peer {template}: give NAME=COMMAND")
    return Server(name, words, port)


def start_all(stack, servers):
    """Starts those that exist, in the contextlib.ExitStack; says which do not."""
    running = [stack.enter_context(server) for server in servers if server is not None]
    if not running:
        die("no server to measure: build ebbd or install memcached")
    return running


def loadgen(server, seconds=3600, check=True, timeout=None, idle=False, **options):
    """Runs ebb-loadgen against the server; options as its long ones with _ for -. Returns its JSON.
    idle: it takes only the time that no other thread wants (SCHED_IDLE)."""
    command = (["chrt", "--idle", "0"] if idle else []) + loadgen_command(server, seconds, **options)
    return _finish(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    preexec_fn=die_with_parent), server, check, timeout or seconds + 60)


def loadgen_command(server, seconds, **options):
    command = [tool("ebb-loadgen"), "--port", str(server.port), "--protocol", server.protocol,
               "--seconds", str(seconds)]
    for key, value in options.items():
        command += ["--" + key.replace("_", "-"), str(value)]
    return command


def replay(server, trace, timeout, **options):
    """Plays a trace (.csv or .csv.zst); returns ebb-replay's JSON."""
    command = [tool("ebb-replay"), "--port", str(server.port), "--protocol", server.protocol]
    for key, value in options.items():
        command += ["--" + key.replace("_", "-")] + ([] if value is True else [str(value)])
    with open_trace(trace) as source:
        process = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=die_with_parent)
        return _finish(process, server, True, timeout)


class open_trace:
    """The CSV of a trace as a pipe or file, in a `with`."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.process = None
        if self.path.endswith(".zst"):
            self.process = subprocess.Popen(["zstdcat", self.path], stdout=subprocess.PIPE, preexec_fn=die_with_parent)
            return self.process.stdout
        self.file = open(self.path)
        return self.file

    def __exit__(self, *_):
        if self.process:
            self.process.stdout.close()
            self.process.terminate()
            self.process.wait()
        else:
            self.file.close()


def _finish(process, server, check, timeout):
    try:
        text, errors = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        process.wait()
        raise
    try:
        result = json.loads(text)
    except ValueError:
        die(f"{server.name}: {' '.join(process.args)}: {errors.strip()}"
            + ("" if server.alive() else f"; the server is gone, its log: {server.log.name}"))
    if check and result.get("wrong"):
        die(f"{server.name} returned {result['wrong']} wrong values: {' '.join(process.args)}")
    return result


def table(rows, head, align="l"):
    """Prints rows under a head; one column to the left for each letter of align, the others to the right."""
    cells = [list(map(str, head))] + [list(map(str, row)) for row in rows]
    width = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for number, row in enumerate(cells):
        print("  ".join(cell.ljust(width[i]) if i < len(align) else cell.rjust(width[i])
                        for i, cell in enumerate(row)).rstrip())
        if number == 0:
            print("  ".join("-" * w for w in width))
    sys.stdout.flush()


def median(values):
    return statistics.median(values) if values else float("nan")


def mib(count):
    return f"{count / MIB:.1f}"


def say(text):
    print(text, file=sys.stderr, flush=True)
