#!/usr/bin/python3
"""Rounds of real clients in their own languages; see clients/README.md."""
import os
import subprocess
import unittest

from servers import Server

ROUND_SECONDS_MAX = 120
HERE = os.path.dirname(os.path.abspath(__file__))


class Clients(unittest.TestCase):
    def round(self, *words):
        """The round on a fresh ebbd, and on memcached, which tests the round."""
        program = [word if word[0] == "/" or "." not in word else os.path.join(HERE, "clients", word) for word in words[:-1]]
        for kind in (Server.ebbd, Server.memcached):
            with kind(flags=["-m", "128"]) as server:
                done = subprocess.run([*program, "127.0.0.1", str(server.port), words[-1]], capture_output=True, text=True,
                                      timeout=ROUND_SECONDS_MAX, cwd=server.folder)
                self.assertEqual((done.returncode, done.stderr), (0, ""), f"{words} with {server.name}: {done.stdout}")

    def test_libmemcached_in_text(self):
        self.round(os.environ["EBB_LIBMEMCACHED_ROUND"], "text")

    def test_libmemcached_in_binary(self):
        self.round(os.environ["EBB_LIBMEMCACHED_ROUND"], "binary")

    def test_php_memcached_in_text(self):
        self.round("/usr/bin/php", "memcached.php", "text")

    def test_php_memcached_in_binary(self):
        self.round("/usr/bin/php", "memcached.php", "binary")

    def test_ruby_dalli(self):
        self.round("/usr/bin/ruby", "dalli.rb", "binary")

    def test_perl_cache_memcached(self):
        self.round("/usr/bin/perl", "memcached.pl", "text")

    def test_python_memcache(self):
        self.round("/usr/bin/python3", "memcache.py", "text")


if __name__ == "__main__":
    unittest.main()
