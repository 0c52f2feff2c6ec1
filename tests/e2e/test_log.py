#!/usr/bin/python3
"""The log: ECS lines that a JSON parser reads, the journal's datagrams, rotation, levels, and readers that do not read."""
import json
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from servers import EBBD, Server, free_port, test_folder

PATIENCE_SECONDS = 30
FIRST_KEYS = ["@timestamp", "log.level", "message", "ecs.version"]


def wait_until(condition, what):
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not happen in {PATIENCE_SECONDS} s")
        time.sleep(0.01)


def lines_of(path):
    """Each line of the file as JSON; a line that is none fails the test."""
    try:
        with open(path) as file:
            text = file.read()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def post(server, path):
    request = urllib.request.Request(f"http://127.0.0.1:{server.admin_port}{path}", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read().decode()


class Log(unittest.TestCase):
    def setUp(self):
        self.folder = test_folder("log")
        self.path = os.path.join(self.folder, "ebbd.log")

    def test_json_lines_are_elastic_common_schema(self):
        with Server.ebbd(flags=["--log-file", self.path, "--log-format", "json", "-vv"]) as server:
            peer = server.connect()
            peer.send(b'get a"b\\c\x01d\r\n')
            peer.line()
            peer.close()
            binary = server.connect()  # get of "bin-key", then noop
            binary.send(struct.pack(">BBHBBHIIQ", 0x80, 0, 7, 0, 0, 0, 7, 0, 0) + b"bin-key")
            binary.send(struct.pack(">BBHBBHIIQ", 0x80, 10, 0, 0, 0, 0, 0, 0, 0))
            binary.read(24)
            binary.close()
        lines = lines_of(self.path)
        self.assertGreater(len(lines), 3)
        for line in lines:
            self.assertEqual(list(line)[:4], FIRST_KEYS)
            self.assertRegex(line["@timestamp"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIn(line["log.level"], ("error", "warn", "info", "debug", "trace"))
            self.assertEqual(line["service.name"], "ebbd")
            self.assertEqual(line["process.pid"], server.pid)
        came = [line["ebb.descriptor"] for line in lines if line["event.code"] == "connected"]
        went = [line["ebb.descriptor"] for line in lines if line["event.code"] == "disconnected"]
        self.assertTrue(came)
        self.assertEqual(sorted(came), sorted(went))
        asked = [line["ebb.line"] for line in lines if line.get("event.code") == "asked"]
        self.assertIn('get a"b\\c?d', asked)
        self.assertIn("get bin-key", asked)
        serves = next(line for line in lines if line.get("event.code") == "serves")
        self.assertEqual(serves["ebb.memory_mib"], 64)

    def test_rotation_loses_no_line(self):
        with Server.ebbd(admin=True, flags=["--log-file", self.path, "--log-format", "json"]) as server:
            for number in range(3):
                post(server, "/debug/log?level=info")
                wait_until(lambda: any(line.get("event.code") == "log_level_set" for line in lines_of(self.path)),
                           "the line before the rotation")
                os.rename(self.path, f"{self.path}.{number}")
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda: any(line.get("event.code") == "log_reopened" for line in lines_of(self.path)),
                           "the first line of the new file")
            descriptors = len(server.descriptors())
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len([1 for line in lines_of(self.path) if line["event.code"] == "log_reopened"]) == 2,
                       "one more reopening")
            self.assertEqual(len(server.descriptors()), descriptors)
        told = sum((lines_of(f"{self.path}.{number}") for number in range(3)), []) + lines_of(self.path)
        codes = [line["event.code"] for line in told]
        self.assertEqual(codes.count("log_level_set"), 3)
        self.assertEqual(codes.count("log_reopened"), 4)
        self.assertEqual(codes[-2:], ["stops", "ended"])

    @unittest.skipUnless(os.geteuid() == 0, "only root becomes somebody else")
    def test_rotation_goes_on_after_the_daemon_has_become_another_user(self):
        nobody = pwd.getpwnam("nobody")

        def hang_up(server, code, path):
            """Until a SIGHUP is told by one more such line in the file."""
            def told():
                return [line["event.code"] for line in lines_of(path)].count(code)
            before = told()
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: told() > before, f"{code} in {path}")

        for owner in (nobody.pw_uid, 0):
            folder = tempfile.mkdtemp()  # where nobody gets to
            self.addCleanup(shutil.rmtree, folder)
            os.chmod(folder, 0o755)
            os.chown(folder, owner, -1)
            path, old = os.path.join(folder, "ebbd.log"), os.path.join(folder, "ebbd.log.1")
            with Server.ebbd(flags=["-u", "nobody", "--log-file", path, "--log-format", "json"]) as server:
                self.assertEqual(os.stat(path).st_uid, owner)
                if owner:
                    hang_up(server, "log_reopened", path)
                os.rename(path, old)
                if not owner:  # it may make no file there: it says so, and goes on until somebody makes one for it
                    hang_up(server, "log_not_reopened", old)
                    with open(path, "w") as file:
                        os.fchown(file.fileno(), nobody.pw_uid, nobody.pw_gid)
                hang_up(server, "log_reopened", path)
                self.assertEqual(os.stat(path).st_uid, nobody.pw_uid)
            self.assertIn("serves", [line["event.code"] for line in lines_of(old)])
            self.assertEqual([line["event.code"] for line in lines_of(path)], ["log_reopened", "stops", "ended"])

    def test_levels_change_by_module_while_it_runs(self):
        with Server.ebbd(admin=True, flags=["--log-file", self.path, "--log-format", "json"]) as server:
            server.connect().close()
            post(server, "/debug/log?module=conn&level=debug")
            peer = server.connect()
            peer.ask(b"version")
            wait_until(lambda: any(line["event.code"] == "connected" for line in lines_of(self.path)), "a debug line")
            self.assertFalse(any(line["event.code"] == "asked" for line in lines_of(self.path)))
            self.assertEqual(peer.ask(b"verbosity 2"), b"OK")
            peer.ask(b"version")
            wait_until(lambda: any(line["event.code"] == "asked" for line in lines_of(self.path)), "a trace line")
            self.assertEqual(json.loads(server.page("/debug/log"))["levels"]["request"], "trace")
            self.assertEqual(peer.ask(b"verbosity 0"), b"OK")
            self.assertEqual(json.loads(server.page("/debug/log"))["levels"]["conn"], "info")
            with self.assertRaises(urllib.error.HTTPError):
                post(server, "/debug/log?module=nobody&level=debug")
            with self.assertRaises(urllib.error.HTTPError):
                post(server, "/debug/log?level=loud")
            peer.close()

    def test_every_event_has_a_level_and_advice(self):
        with Server.ebbd(admin=True) as server:
            events = json.loads(server.page("/debug/events"))["events"]
        self.assertGreater(len(events), 20)
        for event in events:
            self.assertTrue(event["advice"], event["id"])
            given = event["message"].replace("%%", "").count("%")
            named = len([name for name in event["fields"].split(",") if name])
            self.assertEqual(given, named, event["id"])
        self.assertEqual(len({event["id"] for event in events}), len(events))

    def test_a_line_that_a_full_file_cut_short_spoils_no_other(self):
        def whole(text):
            return [json.loads(line) for line in text.splitlines() if line.endswith("}") and line.startswith("{")]
        with Server.ebbd(admin=True, flags=["--log-file", self.path, "--log-format", "json", "-vv"]) as server:
            peer = server.connect()
            before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
            room = 0
            while os.path.getsize(self.path) > room:  # a line came while the limit was set: it is whole, so once more
                room = os.path.getsize(self.path) + 50
                resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (room, before[1]))
            self.assertEqual(peer.ask(b"mn"), b"MN")
            wait_until(lambda: server.metrics()['ebb_log_dropped_total{reason="write_failed"}'] > 0, "a line that does not fit")
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)
            self.assertEqual(peer.ask(b"get after"), b"END")
            peer.close()
        with open(self.path) as file:
            text = file.read()
        self.assertEqual(len(text.splitlines()) - len(whole(text)), 1)  # that line alone
        self.assertIn("get after", [line.get("ebb.line") for line in whole(text)])
        self.assertIn("log_dropped", [line["event.code"] for line in whole(text)])

    def test_a_reader_that_stands_still_keeps_nobody_waiting(self):
        port, admin = free_port(), free_port()
        words = [EBBD, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-vv", "--admin", f"127.0.0.1:{admin}"]
        words += ["-u", "root"] if os.geteuid() == 0 else []
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the start")
        with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as peer:
            for number in range(4000):  # far more lines than pipe and ring hold
                peer.sendall(b"get key-that-makes-the-line-longer-%d\r\n" % number)
                reply = b""
                while not reply.endswith(b"END\r\n"):
                    reply += peer.recv(100)
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=PATIENCE_SECONDS) as reply:
            text = reply.read().decode()
        # Lines that a second's limit held back were never made; the others stood in pipe and ring, or were dropped.
        dropped = int(re.search(r'ebb_log_dropped_total\{reason="reader_slow"\} (\d+)', text)[1])
        self.assertGreater(dropped, 0)
        read = []
        while not any("lines were dropped" in line for line in read):  # the reader wakes up: it is told
            read.append(process.stderr.readline().decode())
            self.assertTrue(read[-1])
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)
        process.stderr.close()

    def test_the_journal_gets_its_own_protocol(self):
        path = os.path.join(self.folder, "journal")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.bind(path)
            journal.settimeout(PATIENCE_SECONDS)
            os.environ["EBB_JOURNAL_SOCKET"] = path
            try:
                with Server.ebbd(flags=["--log-format", "journald"]) as server:
                    fields = dict(line.split(b"=", 1) for line in journal.recv(65536).splitlines())
                self.assertEqual(server.stderr(), "")
            finally:
                del os.environ["EBB_JOURNAL_SOCKET"]
        self.assertRegex(fields[b"MESSAGE"], rb"^ebbd: ebbd .* serves on ")
        self.assertEqual(fields[b"PRIORITY"], b"6")
        self.assertEqual(fields[b"SYSLOG_IDENTIFIER"], b"ebbd")
        self.assertEqual(fields[b"EBB_EVENT"], b"serves")
        self.assertEqual(fields[b"EBB_MEMORY_MIB"], b"64")

    def test_under_systemd_the_journal_is_found(self):
        path = os.path.join(self.folder, "journal")
        mine, its = socket.socketpair()
        stream = os.fstat(its.fileno())
        port = free_port()
        words = [EBBD, "-l", "127.0.0.1", "-p", str(port), "-U", "0"] + (["-u", "root"] if os.geteuid() == 0 else [])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal, mine, its:
            journal.bind(path)
            journal.settimeout(PATIENCE_SECONDS)
            environment = dict(os.environ, EBB_JOURNAL_SOCKET=path,
                               JOURNAL_STREAM=f"{stream.st_dev}:{stream.st_ino}")
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=its, stderr=its, env=environment)
            self.addCleanup(process.kill)
            self.assertIn(b"EBB_EVENT=serves\n", journal.recv(65536))
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(PATIENCE_SECONDS), 0)

    def test_an_unknown_format_is_a_usage_error(self):
        ended = subprocess.run([EBBD, "-u", "root", "--log-format", "xml"], capture_output=True, text=True)
        self.assertEqual(ended.returncode, 64)
        self.assertIn("auto, text, json, journald", ended.stderr)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
