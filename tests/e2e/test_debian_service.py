#!/usr/bin/python3
"""ebbd started as Debian starts memcached: by the wrapper of its service, which reads memcached.conf, and with no more
capabilities than the service grants; and the unit files."""
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

from servers import EBBD, MEMCACHED, REPLY_SECONDS_MAX, SOURCE, START_SECONDS_MAX, STOP_SECONDS_MAX, Peer, _die_with_parent, free_port

WRAPPER = "/usr/share/memcached/scripts/systemd-memcached-wrapper"
CONF = "/usr/share/memcached/memcached.conf.default"
SERVICE = "/lib/systemd/system/memcached.service"
OURS = os.path.join(os.environ.get("EBB_SOURCE", SOURCE), "deploy", "ebbd.service")


def read(path):
    with open(path) as file:
        return file.read()


def replaced(text, pattern, by):
    text, count = re.subn(pattern, by, text, flags=re.M)
    assert count == 1, pattern
    return text


class Service(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()  # as systemd makes /run/memcached: it belongs to the user
        self.addCleanup(shutil.rmtree, self.folder)
        user = pwd.getpwnam("memcache")
        os.chmod(self.folder, 0o755)
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.port = free_port()

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def conf(self):
        text = replaced(read(CONF), r"^-p 11211$", f"-p {self.port}")
        return replaced(text, r"^-P .*$", f"-P {self.folder}/memcached.pid")

    def start(self, program, conf):
        """The service's command, with its capabilities."""
        granted = re.search(r"^CapabilityBoundingSet=(.*)$", read(SERVICE), re.M).group(1).split()
        granted = ",".join(["-all"] + ["+" + name[len("CAP_"):].lower() for name in granted])
        wrapper = self.write("wrapper", replaced(read(WRAPPER), re.escape(f'"{MEMCACHED}"'), f'"{program}"'))
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "wb") as log:
            child = subprocess.Popen(["setpriv", "--bounding-set", granted, "--no-new-privs", "perl", wrapper, self.write("conf", conf)],
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self.addCleanup(lambda: child.poll() is None and (child.kill(), child.wait()))
        return child

    def connect(self, child):
        until = time.monotonic() + START_SECONDS_MAX
        while True:
            self.assertIsNone(child.poll(), read(self.log_path))
            self.assertLess(time.monotonic(), until)
            try:
                return Peer(socket.create_connection(("127.0.0.1", self.port), REPLY_SECONDS_MAX))
            except ConnectionRefusedError:
                time.sleep(0.01)

    def serve_and_stop(self, program, conf):
        child = self.start(program, conf)
        peer = self.connect(child)
        self.assertEqual(peer.set(b"a", b"1"), b"STORED")
        pid_file = os.path.join(self.folder, "memcached.pid")
        until = time.monotonic() + START_SECONDS_MAX
        while not (os.path.exists(pid_file) and read(pid_file).strip() == str(child.pid)):
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)
        user = pwd.getpwnam("memcache").pw_uid
        self.assertEqual([os.stat(f"/proc/{child.pid}").st_uid, os.stat(pid_file).st_uid], [user, user])
        stats = peer.stats()
        peer.close()
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(STOP_SECONDS_MAX), 0, read(self.log_path))
        self.assertEqual(os.path.exists(pid_file), program == MEMCACHED)  # which leaves it
        return stats

    @unittest.skipUnless(os.geteuid() == 0, "the wrapper is for root")
    def test_the_service_starts_with_debians_configuration(self):
        for program in (EBBD, MEMCACHED):
            stats = self.serve_and_stop(program, self.conf())
            self.assertEqual(stats["limit_maxbytes"], str(64 << 20))

    @unittest.skipUnless(os.geteuid() == 0, "the wrapper is for root")
    def test_the_service_starts_with_every_suggestion_of_the_configuration(self):
        conf = re.sub(r"^# (-\w+(?: \d+)?)$", r"\1", self.conf(), flags=re.M)
        self.assertGreater(len(re.findall(r"^-\w", conf, re.M)), 10)
        for program in (EBBD, MEMCACHED):
            stats = self.serve_and_stop(program, conf)
            self.assertEqual(stats["max_connections"], "1024")

    def test_both_unit_files_are_valid_with_ebbd(self):
        ours = replaced(read(OURS), "^ExecStart=/usr/local/bin/ebbd", f"ExecStart={EBBD}")
        debians = replaced(read(SERVICE), "^ExecStart=.*$", f"ExecStart={EBBD} -u memcache -l 127.0.0.1")
        for name, text in (("ebbd.service", ours), ("memcached.service", debians)):
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", self.write(name, text)], capture_output=True, text=True,
                                  timeout=START_SECONDS_MAX)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), name)
        self.assertNotEqual(subprocess.run(["systemd-analyze", "verify", self.write("bad.service", ours.replace("Type=simple", "Type=sometimes"))],
                                           capture_output=True, timeout=START_SECONDS_MAX).stderr, b"")


if __name__ == "__main__":
    unittest.main()
