#!/usr/bin/python3
"""Links that a service user puts into its own folder: whatever the daemon opens while it is root, it opens nothing by them
that the user itself might not open."""
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from servers import EBBD, START_SECONDS_MAX, STOP_SECONDS_MAX, Server, free_port

SECRET = "only root's\n"
FILES = ("-P", "--log-file", "--heap-trace", "--leak-report", "-s")


def read(path):
    with open(path) as file:
        return file.read()


@unittest.skipUnless(os.geteuid() == 0, "only root becomes somebody else")
class Links(unittest.TestCase):
    def setUp(self):
        nobody = pwd.getpwnam("nobody")
        self.folder = tempfile.mkdtemp(dir="/run")  # not /tmp, below which nothing is root's alone
        self.addCleanup(shutil.rmtree, self.folder)
        self.theirs, self.own = os.path.join(self.folder, "theirs"), os.path.join(self.folder, "own")
        os.chmod(self.folder, 0o755)
        for path in (self.theirs, self.own):
            os.mkdir(path, 0o755)
        os.chown(self.theirs, nobody.pw_uid, nobody.pw_gid)
        self.secret = os.path.join(self.own, "secret")

    def plant(self, name, target):
        path = os.path.join(self.theirs, name)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)
        os.lchown(path, pwd.getpwnam("nobody").pw_uid, -1)
        return path

    def write_secret(self, mode):
        with open(self.secret, "w") as file:
            file.write(SECRET)
        os.chmod(self.secret, mode)

    def refuse(self, user, flag, path, word):
        """The start is refused with one line, and nothing of root's is touched."""
        network = [] if flag == "-s" else ["-l", "127.0.0.1", "-p", str(free_port())]
        words = [EBBD, "-u", user, *network, flag, path]
        done = subprocess.run(words, capture_output=True, text=True, timeout=START_SECONDS_MAX, cwd=self.own)
        self.assertGreater(done.returncode, 0, words)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        self.assertIn(word, done.stderr)
        self.assertEqual(os.listdir(self.own), ["secret"], words)
        self.assertEqual(read(self.secret), SECRET, words)

    def test_a_link_to_what_only_root_may_write(self):
        for mode in (0o600, 0o664):  # the second one: root's group may, in which the service user is not
            self.write_secret(mode)
            path = self.plant("file", self.secret)
            for flag in FILES:
                self.refuse("nobody", flag, path, path)

    def test_a_link_to_what_is_not_there_yet(self):
        self.write_secret(0o600)
        path = self.plant("file", os.path.join(self.own, "made"))
        for flag in FILES:
            self.refuse("nobody", flag, path, path)

    def test_a_link_on_the_way(self):
        self.write_secret(0o600)
        way = self.plant("way", self.own)
        for flag in FILES:
            self.refuse("nobody", flag, os.path.join(way, "made"), way)
            self.refuse("root", flag, os.path.join(way, "made"), way)  # who stays root goes no other way

    def test_a_second_name(self):
        self.write_secret(0o600)
        path = os.path.join(self.theirs, "file")
        os.link(self.secret, path)
        for flag in ("-P", "--log-file", "--heap-trace"):
            self.refuse("nobody", flag, path, "second name")

    def test_links_of_the_user_to_what_is_the_users_are_followed(self):
        self.write_secret(0o600)
        target = os.path.join(self.theirs, "target")
        for flag in ("-P", "--log-file", "--heap-trace"):
            path = self.plant("file", target)
            with Server.ebbd(flags=["-u", "nobody", flag, path]) as server:
                self.assertEqual(os.stat(target).st_uid, pwd.getpwnam("nobody").pw_uid)
                self.assertEqual(os.stat(f"/proc/{server.pid}").st_uid, pwd.getpwnam("nobody").pw_uid)
            if os.path.exists(target):
                os.unlink(target)

    def test_links_of_root_are_followed_by_root(self):
        for flag in ("-P", "--log-file", "--heap-trace"):
            path = os.path.join(self.own, "link")
            os.symlink("target", path)
            with Server.ebbd(flags=["-u", "nobody", flag, path]):
                self.assertEqual(os.stat(os.path.join(self.own, "target")).st_uid, 0)
            os.unlink(path)
            if os.path.exists(os.path.join(self.own, "target")):
                os.unlink(os.path.join(self.own, "target"))

    def wait_for(self, server, text, what):
        until = time.monotonic() + START_SECONDS_MAX
        while text not in read(what):
            self.assertIsNone(server.process.poll())
            self.assertLess(time.monotonic(), until, f"{text!r} did not come: {read(what)}")
            time.sleep(0.01)

    def test_a_link_that_comes_while_it_runs_as_root(self):
        self.write_secret(0o600)
        log = os.path.join(self.theirs, "log")
        flags = ["--log-file", log, "--snapshot-folder", os.path.join(self.theirs, "snapshots"), "--leak-report",
                 os.path.join(self.theirs, "leaks")]
        server = Server.ebbd(flags=["-u", "root", *flags])
        self.addCleanup(server.kill)
        os.rename(log, log + ".1")
        self.plant("log", self.secret)
        self.plant("snapshots", self.own)
        self.plant("leaks", self.secret)
        server.process.send_signal(signal.SIGHUP)
        self.wait_for(server, "is not followed", log + ".1")
        server.process.send_signal(signal.SIGUSR2)
        self.wait_for(server, "heapsnapshot", log + ".1")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(STOP_SECONDS_MAX)
        self.assertEqual(os.listdir(self.own), ["secret"])
        self.assertEqual(read(self.secret), SECRET)
        self.assertIn("leaks", read(log + ".1"))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
