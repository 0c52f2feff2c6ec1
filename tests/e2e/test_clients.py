#!/usr/bin/python3
"""Real clients against the real daemon: pymemcache."""
import time
import unittest

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError, MemcacheUnexpectedCloseError

from servers import REPLY_SECONDS_MAX, Server, scaled

LARGE_BYTES = 1000 * 1000


class Pymemcache(unittest.TestCase):
    def setUp(self):
        self.server = Server.ebbd(flags=["-m", "128"])
        self.addCleanup(self.server.kill)
        self.client = self.connect()

    def tearDown(self):
        self.client.close()
        self.server.stop()

    def connect(self, **options):
        return Client(("127.0.0.1", self.server.port), timeout=REPLY_SECONDS_MAX, connect_timeout=REPLY_SECONDS_MAX,
                      default_noreply=False, **options)

    def test_what_was_set_is_got(self):
        self.assertTrue(self.client.set("a", b"hello"))
        self.assertEqual(self.client.get("a"), b"hello")
        self.assertIsNone(self.client.get("b"))

    def test_many_keys_at_once(self):
        wanted = {f"key-{i}": b"value-%d" % i for i in range(scaled(2000, 100))}
        self.assertEqual(self.client.set_many(wanted), [])
        self.assertEqual(self.client.get_many(list(wanted) + ["absent"]), wanted)
        self.assertTrue(self.client.delete_many(list(wanted)))
        self.assertEqual(self.client.get_many(list(wanted)), {})

    def test_add_replace_append_prepend(self):
        self.assertFalse(self.client.replace("a", b"x"))
        self.assertTrue(self.client.add("a", b"x"))
        self.assertFalse(self.client.add("a", b"y"))
        self.assertTrue(self.client.append("a", b"-end"))
        self.assertTrue(self.client.prepend("a", b"start-"))
        self.assertEqual(self.client.get("a"), b"start-x-end")
        self.assertTrue(self.client.replace("a", b"z"))
        self.assertEqual(self.client.get("a"), b"z")

    def test_cas_of_an_old_version_fails(self):
        self.client.set("a", b"1")
        value, seen = self.client.gets("a")
        self.assertEqual(value, b"1")
        self.assertTrue(self.client.cas("a", b"2", seen))
        self.assertFalse(self.client.cas("a", b"3", seen))
        self.assertIsNone(self.client.cas("absent", b"3", seen))
        self.assertEqual(self.client.get("a"), b"2")

    def test_counting(self):
        self.assertIsNone(self.client.incr("n", 1))
        self.client.set("n", b"41")
        self.assertEqual(self.client.incr("n", 1), 42)
        self.assertEqual(self.client.decr("n", 50), 0)
        self.client.set("n", b"text")
        with self.assertRaises(MemcacheClientError):
            self.client.incr("n", 1)

    def test_expiry(self):
        self.client.set("short", b"1", expire=1)
        self.client.set("touched", b"1", expire=4)
        self.client.set("long", b"1", expire=1000)
        self.assertTrue(self.client.touch("touched", 1000))
        time.sleep(5.1)
        self.assertEqual(self.client.get_many(["short", "touched", "long"]), {"touched": b"1", "long": b"1"})

    def test_large_values_come_back_whole(self):
        values = {f"large-{i}": bytes([65 + i]) * (LARGE_BYTES - i) for i in range(10)}
        for key, value in values.items():
            self.client.set(key, value)
        self.assertEqual(self.client.get_many(list(values)), values)

    def test_a_too_large_value_is_refused_and_the_connection_goes_on(self):
        with self.assertRaises(MemcacheServerError):
            self.client.set("a", b"x" * (2 << 20))
        self.client.set("a", b"small")
        self.assertEqual(self.client.get("a"), b"small")

    def test_flush_all(self):
        self.client.set("a", b"1")
        self.assertTrue(self.client.flush_all())
        self.assertIsNone(self.client.get("a"))

    def test_what_was_stored_outlives_the_connection(self):
        self.client.set("a", b"1")
        self.client.quit()
        again = self.connect()
        self.assertEqual(again.get("a"), b"1")
        again.close()

    def test_the_same_client_goes_on_after_a_restart(self):
        self.client.set("a", b"1")
        self.server.restart()
        with self.assertRaises((MemcacheUnexpectedCloseError, ConnectionError)):
            self.client.get("a")
        self.assertIsNone(self.client.get("a"))
        self.assertTrue(self.client.set("a", b"2"))

    def test_stats_and_version(self):
        self.client.set("a", b"1")
        stats = self.client.stats()
        self.assertEqual(stats[b"cmd_set"], 1)
        self.assertEqual(stats[b"curr_items"], 1)
        self.assertTrue(self.client.version())


if __name__ == "__main__":
    unittest.main()
