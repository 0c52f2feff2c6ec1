#!/usr/bin/python3
"""What the system refuses costs the connection that needed it, and the daemon goes on: epoll watches, which all
processes of a user share, and memory."""
import re
import unittest

from servers import Server, ServerError

VALUE_BYTES = 1000 * 1000
BACKLOG_GETS = 20  # of that value: more than the kernel takes for a peer that does not read


class Watches(unittest.TestCase):
    def test_a_start_that_could_not_listen_is_refused_in_one_line(self):
        for admin in (False, True):
            with self.assertRaises(ServerError) as refused:
                Server.planted("unwatched", admin=admin)
            lines = [line for line in str(refused.exception).splitlines()[1:] if "Epoll ADD" not in line]
            self.assertRegex(str(refused.exception), r"ended with 71 at start")
            self.assertEqual(len([line for line in lines if line.strip()]), 1, lines)
            self.assertRegex(lines[0], r"epoll watches are used up; raise fs.epoll.max_user_watches")

    def test_one_connection_is_closed_and_counted_and_the_others_go_on(self):
        with Server.planted("", admin=True, flags=["-m", "64", "-t", "2"]) as server:
            old, slow = server.connect(), server.connect(receive_buffer=4096)
            self.assertEqual(old.set(b"big", b"x" * VALUE_BYTES), b"STORED")
            slow.send(b"version\r\n")  # it is watched
            slow.line()
            before = len(server.descriptors())
            server.plant("unwatched")
            for _ in range(3):
                self.assertTrue(server.connect().closed())
            slow.send(b"get big\r\n" * BACKLOG_GETS)  # to wait until it can be sent is one more watch
            while server.stderr().count("connection closed: cannot watch") == 0 or len(server.descriptors()) >= before:
                self.assertEqual(old.get(b"big"), b"x" * VALUE_BYTES)
            server.plant("")
            fresh = server.connect()
            self.assertEqual(fresh.get(b"big"), b"x" * VALUE_BYTES)
            self.assertEqual(server.metrics()["ebb_connections_dropped_total"], 4)
            self.assertEqual(int(fresh.stats()["curr_connections"]), 2)
            for peer in (old, slow, fresh):
                peer.close()


if __name__ == "__main__":
    unittest.main(warnings="ignore")
