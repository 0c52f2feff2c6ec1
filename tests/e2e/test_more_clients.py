#!/usr/bin/python3
"""Rounds of real clients in their own languages; see clients/README.md."""
import os
import subprocess
import threading
import unittest

from servers import Server, test_folder

ROUND_SECONDS_MAX = 120
HERE = os.path.dirname(os.path.abspath(__file__))


class Clients(unittest.TestCase):
    def run_round(self, words, server):
        """Runs the client; restarts the server when the client says so, and says when it is done."""
        with open(os.path.join(server.folder, "round"), "w+") as err, \
             subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True,
                              cwd=server.folder) as client:
            bound = threading.Timer(ROUND_SECONDS_MAX, client.kill)
            bound.daemon = True
            bound.start()
            restarts = 0
            for line in client.stdout:
                self.assertEqual(line, "restart\n", words)
                server.restart()
                restarts += 1
                client.stdin.write("restarted\n")
                client.stdin.flush()
            status = client.wait()
            bound.cancel()
            err.seek(0)
            self.assertEqual((status, err.read(), restarts), (0, "", 1), f"{words} with {server.name}")

    def round(self, *words):
        """The round on a fresh ebbd, and on memcached, which tests the round."""
        program = [word if word[0] == "/" or "." not in word else os.path.join(HERE, "clients", word) for word in words[:-1]]
        for kind in (Server.ebbd, Server.memcached):
            with kind(flags=["-m", "128"]) as server:
                self.run_round([*program, "127.0.0.1", str(server.port), words[-1]], server)

    def test_libmemcached_in_text(self):
        self.round(os.environ["EBB_LIBMEMCACHED_ROUND"], "text")

    def test_libmemcached_in_binary(self):
        self.round(os.environ["EBB_LIBMEMCACHED_ROUND"], "binary")

    def test_apr_memcache(self):
        self.round(os.environ["EBB_APR_MEMCACHE_ROUND"], "text")

    def test_php_memcached_in_text(self):
        self.round("/usr/bin/php", "memcached.php", "text")

    def test_php_memcached_in_binary(self):
        self.round("/usr/bin/php", "memcached.php", "binary")

    def test_php_memcache_in_text(self):
        self.round("/usr/bin/php", "memcache.php", "text")

    def test_php_memcache_in_binary(self):
        self.round("/usr/bin/php", "memcache.php", "binary")

    def test_ruby_dalli(self):
        self.round("/usr/bin/ruby", "dalli.rb", "binary")

    def test_perl_cache_memcached(self):
        self.round("/usr/bin/perl", "memcached.pl", "text")

    def test_perl_cache_memcached_fast(self):
        self.round("/usr/bin/perl", "memcached_fast.pl", "text")

    def test_python_memcache(self):
        self.round("/usr/bin/python3", "memcache_round.py", "text")

    def test_python_pylibmc_in_text(self):
        self.round("/usr/bin/python3", "pylibmc_round.py", "text")

    def test_python_pylibmc_in_binary(self):
        self.round("/usr/bin/python3", "pylibmc_round.py", "binary")

    def test_python_binary_memcached(self):
        self.round("/usr/bin/python3", "binary_memcached.py", "binary")

    def test_go_gomemcache(self):
        folder = test_folder("gomemcache")
        program = os.path.join(folder, "round")
        # Debian's Go packages are sources below /usr/share/gocode; nothing is fetched.
        go = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOFLAGS="",
                  GOCACHE=os.path.join(os.path.dirname(folder), "go-cache"))
        subprocess.run(["go", "build", "-o", program, os.path.join(HERE, "clients", "gomemcache.go")], env=go, check=True,
                       timeout=2 * ROUND_SECONDS_MAX)
        self.round(program, "text")


if __name__ == "__main__":
    unittest.main()
