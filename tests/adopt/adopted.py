"""adopted -- runs a program under ebb-adopt for a test, and reads what was reported.

    with Adopted([PROGRAM, "slow"]) as watched:
        watched.ready()            # the program says so
        watched.rounds(3)          # three more looks at it have been reported
        watched.go()               # the program goes on, and ends
    watched.report                 # of the end

1. Everything that is waited for is an event: a line, a number of rounds, an end.
2. ebb-adopt ends with the program; its exit status is the program's.

Environment: EBB_ADOPT_TOOL, EBB_ADOPT_PROGRAM, EBB_ADOPT_PLUGIN; EBB_TEST_DIR as in servers.py."""
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import servers  # noqa: E402

TOOL = os.environ.get("EBB_ADOPT_TOOL", os.path.join(servers.SOURCE, "build/deploy/bin/ebb-adopt"))
PROGRAM = os.environ.get("EBB_ADOPT_PROGRAM", os.path.join(servers.SOURCE, "build/deploy/bin/adopt_program"))
PLUGIN = os.environ.get("EBB_ADOPT_PLUGIN", os.path.join(servers.SOURCE, "build/deploy/tests/adopt/libadopt_plugin.so"))
WAIT_SECONDS_MAX = 60


def until(ask, what):
    """The first answer that is not None."""
    end = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < end:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come in {WAIT_SECONDS_MAX} s")


class Adopted:
    def __init__(self, words, flags=(), interval_ms=50, environment=()):
        self.folder = servers.test_folder("adopted")
        self.file = os.path.join(self.folder, "report")
        self.port = servers.free_port()
        self.report = None
        self.status = None
        self.log = os.path.join(self.folder, "log")
        command = [TOOL, "run", f"--interval-ms={interval_ms}", f"--admin=127.0.0.1:{self.port}",
                   f"--leak-report={self.file}", f"--log-file={self.log}", *flags, "--", *words]
        self.stderr = open(os.path.join(self.folder, "stderr"), "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
                                        cwd=self.folder, env={**os.environ, **dict(environment)},
                                        preexec_fn=servers._die_with_parent)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.process.kill()
        else:
            self.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.stderr.close()

    def ready(self):
        line = self.process.stdout.readline()
        assert line == b"ready\n", (line, open(self.stderr.name).read())

    def go(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def now(self):
        """What is reported now, by its admin address; None before it is there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/debug/adopted?format=json", timeout=30) as answer:
                return json.load(answer)["processes"]
        except OSError:
            assert self.process.poll() is None, open(self.stderr.name).read()
            return None

    def rounds(self, more=3):
        """Waits until each process that reports has done so many rounds more. One may have been begun before; of two
        further ones, the second tells what is lost."""
        before = {p["process"]: p["rounds"] for p in until(lambda: self.now() or None, "a report")}

        def done():
            now = [p for p in self.now() or [] if not p["ended"]]
            return now if now and all(p["rounds"] >= before.get(p["process"], 0) + more for p in now) else None
        return until(done, f"{more} rounds")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        self.status = self.process.wait(WAIT_SECONDS_MAX)
        if os.path.exists(self.file + ".json"):
            with open(self.file + ".json") as file:
                self.report = json.load(file)["processes"]


def lost_by_function(process):
    """How many blocks each innermost function that is not of the C library lost."""
    lost = {}
    for site in process["sites"]:
        names = [frame.split(" ")[0] for frame in site["path"]]
        ours = next((name for name in names if name not in ("strdup", "__strdup")), "?")
        lost[ours] = lost.get(ours, 0) + site["lost"]
    return {name: count for name, count in lost.items() if count}


def is_nearly(lost, planted):
    """Never more than was planted. A word that a register or a dead frame has kept may hold a block or two."""
    return lost.keys() == planted.keys() and all(planted[name] - 1 - planted[name] // 100 <= lost[name] <= planted[name] for name in lost)


def disproofs(processes):
    return [site for p in processes for site in p["sites"] if site["freed"] + site["reached"] + site["written"]]


def main(scope):
    """Runs each function test_*, or those that are named."""
    wanted = sys.argv[1:]
    for name, function in list(scope.items()):
        if name.startswith("test_") and (not wanted or name in wanted):
            start = time.monotonic()
            function()
            print(f"ok {name} ({time.monotonic() - start:.1f} s)", flush=True)
