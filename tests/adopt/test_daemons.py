#!/usr/bin/python3
"""Daemons of Debian, unmodified: adopted they give the same answers as their unadopted twins, and no alarm is disproved.

Each is started twice with the same configuration; the same conversation is held with both. lighttpd 1.4.69 loses memory
with each request that asks for an upgrade to h2c: that is found, with its call path."""
import hashlib
import os
import random
import re
import signal
import socket
import struct
import subprocess

import adopted
import servers
from adopted import Adopted, disproofs, until

SECONDS_MAX = 30
STATUSES_AFTER_UPGRADES = (0, 1)  # lighttpd's own: stopped soon after such requests it ends with either, unadopted too


def connect(port):
    return socket.create_connection(("127.0.0.1", port), SECONDS_MAX)


def answering(port):
    try:
        connect(port).close()
    except OSError:
        return None
    return True


def http_request(port, path, more=b""):
    """The status line and the body. The peer closes."""
    with connect(port) as peer:
        peer.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path, more or b"Connection: close\r\n"))
        answer = b""
        while more == b"" or b"\r\n\r\n" not in answer:
            piece = peer.recv(65536)
            if not piece:
                break
            answer += piece
    return answer.split(b"\r\n")[0] + answer.partition(b"\r\n\r\n")[2]


# --- conversations: each returns the answers' bytes ---

def talk_http(port):
    return b"".join(http_request(port, (b"/small.txt", b"/big.txt", b"/none", b"/folder/")[i % 4]) for i in range(200))


def talk_memcached(port):
    answers, chance = b"", random.Random(1)
    for _ in range(10):
        peer = servers.Peer(connect(port))
        for _ in range(100):
            key = b"key%d" % chance.randrange(300)
            answers += peer.set(key, key * chance.randrange(1, 60))
            answers += peer.get(b"key%d" % chance.randrange(300)) or b"miss"
            answers += peer.ask(b"delete key%d" % chance.randrange(300))
        peer.close()
    return answers


def redis_command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def read_redis(file):
    line = file.readline()
    if line[:1] == b"$" and int(line[1:]) >= 0:
        return line + file.read(int(line[1:]) + 2)
    if line[:1] == b"*":
        return line + b"".join(read_redis(file) for _ in range(int(line[1:])))
    return line


def talk_redis(port):
    answers, chance = b"", random.Random(2)
    with connect(port) as peer, peer.makefile("rb") as file:
        for i in range(1500):
            key = chance.randrange(1000)
            for words in (("SET", f"k{key}", "v" * chance.randrange(1, 400)), ("GET", f"k{chance.randrange(1000)}"),
                          ("LPUSH", f"l{key % 50}", f"item{i}"), ("LTRIM", f"l{key % 50}", 0, 100),
                          ("HSET", f"h{key % 100}", f"f{chance.randrange(200)}", "x"), ("DEL", f"k{chance.randrange(1000)}"),
                          ("ZADD", f"z{key % 20}", i, f"m{chance.randrange(500)}"), ("ZRANGE", f"z{key % 20}", 0, 5),
                          ("EVAL", "return redis.call('GET', KEYS[1])", 1, f"k{key}")):
                peer.sendall(redis_command(*words))
                answers += read_redis(file)
        peer.sendall(redis_command("BGSAVE"))
        read_redis(file)
    return answers


def talk_dns(port):
    answers = b""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(SECONDS_MAX)
        peer.connect(("127.0.0.1", port))
        for i in range(600):
            name = ("a.lan", "b.lan", "c.test.lan", "nothing.lan")[i % 4]
            question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
            peer.send(struct.pack(">HHHHHH", i, 0x100, 1, 0, 0, 0) + question + struct.pack(">HH", (1, 28, 16)[i // 4 % 3], 1))
            answers += peer.recv(4096)
    return answers


def mqtt_text(text):
    return struct.pack(">H", len(text)) + text


def mqtt_packet(kind, body):
    length, head = len(body), b""
    while True:
        head += bytes([length % 128 | (128 if length > 127 else 0)])
        length //= 128
        if length == 0:
            return bytes([kind]) + head + body


def read_all(peer, count):
    got = b""
    while len(got) < count:
        piece = peer.recv(count - len(got))
        assert piece, "the broker closed"
        got += piece
    return got


def mqtt_client(port, number):
    peer = connect(port)
    peer.sendall(mqtt_packet(0x10, mqtt_text(b"MQTT") + b"\4\2\0\x3c" + mqtt_text(b"c%d" % number)))
    assert read_all(peer, 4) == b"\x20\2\0\0"
    return peer


def talk_mqtt(port):
    answers = b""
    with mqtt_client(port, 0) as subscriber:
        subscriber.sendall(mqtt_packet(0x82, b"\0\1" + mqtt_text(b"t/#") + b"\0"))
        read_all(subscriber, 5)
        for round_ in range(10):
            with mqtt_client(port, round_ + 1) as publisher:
                for i in range(40):
                    message = mqtt_packet(0x30, mqtt_text(b"t/%d" % i) + b"m" * (5 * i))
                    publisher.sendall(message)
                    answers += read_all(subscriber, len(message))
                publisher.sendall(b"\xe0\0")
    return answers


# --- daemons: the words that start each, in a folder of its own ---

def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def web_folder(folder):
    os.makedirs(os.path.join(folder, "www/folder"))
    write(os.path.join(folder, "www/small.txt"), "hello\n" * 20)
    write(os.path.join(folder, "www/big.txt"), "0123456789abcdef" * 8000)
    write(os.path.join(folder, "www/folder/index.html"), "<p>folder</p>")
    return os.path.join(folder, "www")


def lighttpd(folder, port):
    configuration = write(os.path.join(folder, "conf"), f'''server.document-root = "{web_folder(folder)}"
server.port = {port}
server.bind = "127.0.0.1"
index-file.names = ( "index.html" )
mimetype.assign = ( ".txt" => "text/plain", ".html" => "text/html" )
''')
    return ["lighttpd", "-D", "-f", configuration]


def memcached(_, port):
    return ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "2"]


def redis(folder, port):
    return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]


def dnsmasq(_, port):
    return ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", f"--port={port}", "--listen-address=127.0.0.1",
            "--bind-interfaces", "--no-resolv", "--no-hosts", "--user=root", "--pid-file", "--address=/a.lan/10.0.0.1",
            "--address=/b.lan/10.0.0.2", "--txt-record=c.test.lan,some text"]


def mosquitto(folder, port):
    return ["mosquitto", "-c", write(os.path.join(folder, "conf"), f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")]


def digest(answers):
    return hashlib.sha256(re.sub(rb"(?i)date: [^\r]*", b"", answers)).hexdigest()


def twin(words_of, talk):
    port = servers.free_port()
    process = subprocess.Popen(words_of(servers.test_folder("twin"), port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=servers._die_with_parent)
    try:
        until(lambda: answering(port), "an answer")
        return digest(talk(port))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def compare(words_of, talk):
    """The last report of the adopted one, and of its exit."""
    expected, port = twin(words_of, talk), servers.free_port()
    with Adopted(words_of(servers.test_folder("daemon"), port), interval_ms=200) as watched:
        until(lambda: answering(port), "an answer")
        assert digest(talk(port)) == expected, "other answers than the twin's"
        middle = watched.rounds(3)
        assert digest(talk(port)) == expected or words_of in (redis, memcached), "other answers than the twin's"
        watched.rounds(3)
        watched.terminate()
    assert watched.status == 0, (watched.status, open(watched.stderr.name).read())
    assert disproofs(watched.report) == [], disproofs(watched.report)
    return sum(p["lost"] for p in middle), watched.report


def lost_nothing(words_of, talk):
    lost, report = compare(words_of, talk)
    assert lost == 0, report


def test_redis():
    lost_nothing(redis, talk_redis)


def test_memcached():
    lost_nothing(memcached, talk_memcached)


def test_dnsmasq():
    lost_nothing(dnsmasq, talk_dns)


def test_mosquitto():
    lost_nothing(mosquitto, talk_mqtt)


def test_lighttpd():
    lost_nothing(lighttpd, talk_http)


def test_lighttpds_leak_is_found_where_it_is():
    requests = 200
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    port = servers.free_port()
    with Adopted(lighttpd(servers.test_folder("lighttpd"), port), interval_ms=200) as watched:
        until(lambda: answering(port), "an answer")
        for _ in range(requests):
            assert http_request(port, b"/small.txt").startswith(b"HTTP/1.1 200")
        assert [p["lost"] for p in watched.rounds(3)] == [0]
        for _ in range(requests):
            assert http_request(port, b"/small.txt", upgrade).startswith(b"HTTP/1.1 101")
        process, = watched.rounds(3)
        assert 15 * requests < process["lost"] < 22 * requests, process["lost"]
        paths = [" ".join(site["path"]) for site in process["sites"]]
        assert any("http_header_request_append" in path and "connection_state_machine" in path for path in paths), paths
        watched.terminate()
    assert watched.status in STATUSES_AFTER_UPGRADES and disproofs(watched.report) == [], (watched.status, watched.report)


def resident_kib(process):
    with open(f"/proc/{process}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))


def test_lighttpds_leak_is_reclaimed_and_its_memory_stays_flat():
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    port = servers.free_port()
    with Adopted(lighttpd(servers.test_folder("lighttpd"), port), flags=["--reclaim=3"], interval_ms=100) as watched:
        until(lambda: answering(port), "an answer")

        def lose_and_wait(times):
            for _ in range(600):
                assert http_request(port, b"/small.txt", upgrade).startswith(b"HTTP/1.1 101")

            def reclaimed():
                now = watched.now()
                return now[0] if now and now[0]["reclaimed"] > 15 * 600 * times and now[0]["lost"] == 0 else None
            return until(reclaimed, "the loss")
        process = lose_and_wait(1)["process"]
        before = resident_kib(process)
        for times in range(2, 6):
            lose_and_wait(times)
        grown = resident_kib(process) - before
        assert grown < 1500, f"{grown} KiB more, of some 3,000 that were lost"
        watched.terminate()
    assert watched.status in STATUSES_AFTER_UPGRADES and disproofs(watched.report) == [], (watched.status, watched.report)


if __name__ == "__main__":
    adopted.main(globals())
