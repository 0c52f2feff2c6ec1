#!/usr/bin/python3
"""Those who read what ebbd tells: a real journal, a real rsyslog that follows the log through a rotation, and a real
Alertmanager behind a Prometheus with the rules of deploy/."""
import json
import os
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from servers import Server, _die_with_parent, free_port, test_folder  # noqa: E402
from test_deploy import WAIT_SECONDS_MAX, Prometheus  # noqa: E402

JOURNALD = "/lib/systemd/systemd-journald"
PRIORITIES = {"error": "3", "warn": "4", "info": "6", "debug": "7", "trace": "7"}


def until(holds):
    """What holds() gave, once that is something."""
    end = time.monotonic() + WAIT_SECONDS_MAX
    while not (found := holds()):
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.05)
    return found


class Program:
    """A program that ends with the test."""

    def __init__(self, case, words, folder, name):
        with open(os.path.join(folder, name + ".log"), "wb") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, preexec_fn=_die_with_parent)
        case.addCleanup(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Journal(unittest.TestCase):
    """systemd-journald in a mount namespace of its own: what it calls /run is ours alone."""

    def setUp(self):
        self.folder = test_folder("journal")
        alone, script = ["unshare", "--mount", "--propagation", "private", "sh", "-c"], "mount -t tmpfs none /run"
        if subprocess.run([*alone, script], capture_output=True).returncode != 0:
            self.skipTest("this machine lets nobody mount")
        script += f" && mkdir -p /run/systemd/journal /run/log && exec {JOURNALD}"
        journal = Program(self, [*alone, script], self.folder, "journald")
        self.run = os.path.join("/proc", str(journal.process.pid), "root", "run")
        until(lambda: os.path.exists(f"{self.run}/systemd/journal/socket"))

    def entries(self, *matches):
        done = subprocess.run(["journalctl", "--directory", f"{self.run}/log/journal", "--output", "json", *matches],
                              capture_output=True, text=True)
        self.assertEqual(done.stderr, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_the_journal_has_every_line_with_level_and_fields(self):
        path = os.path.join(self.folder, "log")
        os.environ["EBB_JOURNAL_SOCKET"] = f"{self.run}/systemd/journal/socket"
        try:
            server = Server.ebbd(flags=["-vv", "--log-format", "journald"], admin=True, folder=test_folder("told"))
        finally:
            del os.environ["EBB_JOURNAL_SOCKET"]
        with server:
            peer = server.connect()
            peer.ask(b"get a=b\x01\xff\"")
            peer.close()
            known = {event["id"]: event["level"] for event in json.loads(server.page("/debug/events"))["events"]}
        self.assertEqual(server.stderr(), "")
        told = until(lambda: self.entries("EBB_EVENT=ended") and self.entries(f"_PID={server.pid}"))
        self.assertLessEqual({"serves", "admin_at", "connected", "asked", "disconnected", "stops", "ended"}, {entry["EBB_EVENT"] for entry in told})
        for entry in told:
            self.assertEqual(entry["SYSLOG_IDENTIFIER"], "ebbd")
            self.assertEqual((entry["EBB_LEVEL"], entry["PRIORITY"]), (known[entry["EBB_EVENT"]], PRIORITIES[known[entry["EBB_EVENT"]]]))
            self.assertTrue(entry["MESSAGE"].startswith(entry["EBB_MODULE"] + ": "), entry)
        serves = next(entry for entry in told if entry["EBB_EVENT"] == "serves")
        self.assertEqual(serves["EBB_MEMORY_MIB"], "64")
        asked = self.entries("EBB_EVENT=asked", f"_PID={server.pid}")
        self.assertIn('get a=b??"', [entry["EBB_LINE"] for entry in asked])
        self.assertEqual(self.entries("--priority", "warning", f"_PID={server.pid}"), [])


class Rsyslog(unittest.TestCase):
    CONFIG = """
module(load="imfile" mode="polling" pollingInterval="1")
module(load="mmjsonparse")
template(name="all" type="list") {{ property(name="$!all-json") constant(value="\\n") }}
ruleset(name="ebb") {{
    action(type="mmjsonparse" cookie="")
    if $parsesuccess == "OK" then action(type="omfile" file="{folder}/read" template="all")
    else action(type="omfile" file="{folder}/refused")
}}
input(type="imfile" file="{log}" tag="ebbd:" ruleset="ebb" addMetadata="off")
"""

    def test_rsyslog_reads_every_json_line_beyond_a_rotation(self):
        folder = test_folder("rsyslog")
        log, config = os.path.join(folder, "ebbd.json"), os.path.join(folder, "rsyslog.conf")
        with open(config, "w") as file:
            file.write(self.CONFIG.format(folder=folder, log=log))
        with Server.ebbd(flags=["-vv", "--log-format", "json", "--log-file", log], admin=True) as server:
            Program(self, ["rsyslogd", "-n", "-f", config, "-i", os.path.join(folder, "pid")], folder, "rsyslogd")
            peer = server.connect()
            peer.ask(b'get "\\\x01\xff{}')
            until(lambda: '"asked"' in self.read(folder))
            os.rename(log, log + ".1")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: os.path.exists(log))
            peer.ask(b"get after")
            peer.close()
        with open(log + ".1") as before, open(log) as after:
            written = [json.loads(line) for line in [*before, *after]]
        read = until(lambda: '"ended"' in self.read(folder) and [json.loads(line) for line in self.read(folder).splitlines()])
        self.assertEqual(read, written)
        self.assertFalse(os.path.exists(os.path.join(folder, "refused")))

    @staticmethod
    def read(folder):
        path = os.path.join(folder, "read")
        if not os.path.exists(path):
            return ""
        with open(path) as file:
            return file.read().rpartition("\n")[0]


class Alertmanager(unittest.TestCase):
    def test_an_alarm_of_a_live_daemon_arrives_with_what_to_do(self):
        folder, port = test_folder("alertmanager"), free_port()
        with open(os.path.join(folder, "config.yml"), "w") as file:
            file.write("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        Program(self, ["prometheus-alertmanager", "--config.file=config.yml", f"--storage.path={folder}/data",
                       f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="], folder, "alertmanager")
        with Server.ebbd(flags=["-c", "10"], admin=True) as server, Prometheus(server.admin_port, alerts_to=port) as prometheus:
            prometheus.wait("count_over_time(memcached_up[10s]) > 1")
            self.assertEqual(self.alerts(port), [])
            peers = [server.connect() for _ in range(15)]
            alert = until(lambda: [alert for alert in self.alerts(port) if alert["labels"]["alertname"] == "EbbConnectionsRefused"])[0]
            for peer in peers:
                peer.close()
        self.assertEqual(alert["status"]["state"], "active")
        self.assertEqual(alert["labels"]["job"], "ebb")
        self.assertIn("Raise -c", alert["annotations"]["description"])

    def alerts(self, port):
        done = subprocess.run(["amtool", f"--alertmanager.url=http://127.0.0.1:{port}", "--output=json", "alert", "query"],
                              capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else []


if __name__ == "__main__":
    unittest.main(verbosity=2)
