#!/usr/bin/python3
"""Programs of others that stand around a memcached, with ebbd in its place: memcached-tool, nginx, Lua in nginx, Apache,
twemproxy (nutcracker), collectd, munin, check_memcached. What they say of ebbd has the form of what they say of memcached."""
import base64
import glob
import hashlib
import os
import re
import signal
import socket
import subprocess
import time
import unittest
import urllib.error
import urllib.request

from servers import REPLY_SECONDS_MAX, SOURCE, Peer, Server, _die_with_parent, free_port

TOOL = "/usr/share/memcached/scripts/memcached-tool"
MUNIN = "/usr/share/munin/plugins/memcached_"
CHECK = "/usr/lib/nagios/plugins/check_memcached"
WAIT_SECONDS_MAX = 60

NGINX = """
{modules}
daemon off; master_process off; error_log error.log; pid nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    {upstream}
    server {{ listen 127.0.0.1:{port}; {locations} }}
}}
"""
NGINX_MODULES = "/usr/lib/nginx/modules"

PAGES_UPSTREAM = "upstream cache {{ server 127.0.0.1:{cache}; keepalive 4; }}"
PAGES = """
location /cached/ { set $memcached_key $uri; memcached_pass cache; }
location /memc {
    set $memc_cmd $arg_cmd; set $memc_key $arg_key; set $memc_value $arg_value; set $memc_exptime $arg_seconds;
    memc_pass cache;
}
"""

ROUND = f"location /round {{ content_by_lua_file {SOURCE}/tests/e2e/clients/resty.lua; }}"

APACHE = """
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authn_file_module {modules}/mod_authn_file.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_basic_module {modules}/mod_auth_basic.so
LoadModule socache_memcache_module {modules}/mod_socache_memcache.so
LoadModule authn_socache_module {modules}/mod_authn_socache.so
Listen 127.0.0.1:{port}
ServerName localhost
ServerRoot {folder}
DefaultRuntimeDir {folder}
DocumentRoot {folder}/pages
PidFile apache.pid
ErrorLog error.log
AuthnCacheSOCache memcache:127.0.0.1:{cache}
<Directory {folder}/pages>
    AuthType Basic
    AuthName test
    AuthBasicProvider socache file
    AuthnCacheProvideFor file
    AuthUserFile {folder}/users
    Require valid-user
</Directory>
"""

NUTCRACKER = """
pool:
  listen: 127.0.0.1:{port}
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  timeout: 30000
  servers:
   - 127.0.0.1:{one}:1 one
   - 127.0.0.1:{two}:1 two
"""

COLLECTD = """
BaseDir "."
Interval 1
TypesDB "/usr/share/collectd/types.db"
LoadPlugin memcached
LoadPlugin csv
<Plugin memcached>
    <Instance "cache">
        Address "127.0.0.1"
        Port "{cache}"
    </Instance>
</Plugin>
<Plugin csv>
    DataDir "{folder}/csv"
</Plugin>
"""


class Around(unittest.TestCase):
    def serve(self, kind, **options):
        server = kind(**options)
        self.addCleanup(server.kill)
        return server

    def write(self, server, name, text):
        path = os.path.join(server.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def start(self, server, *words):
        """A program that runs until the end of the test."""
        with open(os.path.join(server.folder, os.path.basename(words[0]) + ".log"), "wb") as log:
            child = subprocess.Popen(words, cwd=server.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     preexec_fn=_die_with_parent)
        self.addCleanup(child.wait)
        self.addCleanup(child.send_signal, signal.SIGKILL)
        return child

    def run_once(self, *words, **environment):
        done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, env=dict(os.environ, **environment))
        self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def wait(self, found):
        until = time.monotonic() + WAIT_SECONDS_MAX
        while not found():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.05)

    def wait_for_port(self, port):
        def answers():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0
        self.wait(answers)

    def both(self):
        """An ebbd and a memcached with the same few items, read and missed equally often."""
        for kind in (Server.ebbd, Server.memcached):
            server = self.serve(kind)
            peer = server.connect()
            self.assertEqual([peer.set(b"key-%d" % i, b"x" * 100) for i in range(10)], [b"STORED"] * 10)
            peer.get(b"key-1")
            peer.get(b"absent")
            peer.close()
            yield server

    def test_memcached_tool_reads_stats_and_settings(self):
        for server in self.both():
            where = f"127.0.0.1:{server.port}"
            display = self.run_once("/usr/bin/perl", TOOL, where).splitlines()
            self.assertRegex(display[0], r"#  Item_Size  Max_age   Pages   Count   Full\?  Evicted Evict_Time OOM")
            self.assertEqual(sum(int(line.split()[4]) for line in display[1:]), 10)
            stats = dict(line.split() for line in self.run_once("/usr/bin/perl", TOOL, where, "stats").splitlines()[1:])
            self.assertEqual((stats["cmd_set"], stats["get_hits"], stats["get_misses"]), ("10", "1", "1"))
            settings = dict(line.split() for line in self.run_once("/usr/bin/perl", TOOL, where, "settings").splitlines()[1:])
            self.assertEqual(settings["tcpport"], str(server.port))
            if not server.oracle:
                sizes = [line.split() for line in self.run_once("/usr/bin/perl", TOOL, where, "sizes").splitlines()[1:]]
                self.assertEqual(sum(int(count) for _, count in sizes), 10)

    def test_what_memcached_tool_dumps_fills_another(self):
        for server in self.both():
            where = f"127.0.0.1:{server.port}"
            keys = re.findall(r"^key=(\S+) ", self.run_once("/usr/bin/perl", TOOL, where, "keys"), re.M)
            self.assertEqual(sorted(keys), [f"key-{i}" for i in range(10)])
            dump = subprocess.run(["/usr/bin/perl", TOOL, where, "dump"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  timeout=WAIT_SECONDS_MAX, check=True).stdout
            other = self.serve(Server.ebbd).connect()
            other.send(dump)
            self.assertEqual([other.line() for _ in range(10)], [b"STORED\r\n"] * 10)
            self.assertEqual(other.get(b"key-7"), b"x" * 100)
            other.close()

    def fetch(self, url):
        with urllib.request.urlopen(url, timeout=REPLY_SECONDS_MAX) as reply:
            return reply.read().decode()

    def start_nginx(self, server, modules, locations, upstream=""):
        """Returns its address."""
        port = free_port()
        load = "\n".join(f"load_module {NGINX_MODULES}/{module}_module.so;" for module in modules)
        path = self.write(server, "nginx.conf",
                          NGINX.format(modules=load, upstream=upstream, port=port, locations=locations))
        self.start(server, "/usr/sbin/nginx", "-p", server.folder, "-e", "error.log", "-c", path)
        self.wait_for_port(port)
        return f"http://127.0.0.1:{port}"

    def test_nginx_serves_pages_out_of_it(self):
        server = self.serve(Server.ebbd)
        base = self.start_nginx(server, ("ngx_http_memc",), PAGES, PAGES_UPSTREAM.format(cache=server.port))
        page = "<p>" + "page " * 50000
        peer = server.connect()
        peer.set(b"/cached/page", page.encode())
        for _ in range(20):  # over kept connections
            self.assertEqual(self.fetch(base + "/cached/page"), page)
        with self.assertRaises(urllib.error.HTTPError) as absent:
            self.fetch(base + "/cached/absent")
        self.assertEqual(absent.exception.code, 404)
        absent.exception.close()
        for query, answer in (("cmd=set&key=n&value=41", "STORED"), ("cmd=incr&key=n&value=1", "42"),
                              ("cmd=add&key=fresh&value=x", "STORED"), ("cmd=replace&key=fresh&value=y", "STORED"),
                              ("cmd=get&key=fresh", "y"), ("cmd=delete&key=fresh", "DELETED"), ("cmd=flush_all", "OK"),
                              ("cmd=version", "VERSION 1.6")):
            self.assertTrue(self.fetch(f"{base}/memc?{query}").startswith(answer), query)
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while "STAT curr_items 0\r\n" not in self.fetch(base + "/memc?cmd=stats"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        server.restart()
        again = server.connect()
        again.set(b"/cached/page", b"new")
        again.close()
        self.wait(lambda: self.fetch(base + "/cached/page") == "new")
        peer.close()
        server.stop()

    def test_lua_in_nginx_does_its_round(self):
        for kind in (Server.ebbd, Server.memcached):
            server = self.serve(kind)
            url = f"{self.start_nginx(server, ('ndk_http', 'ngx_http_lua'), ROUND)}/round?port={server.port}"
            self.assertEqual(self.fetch(url), "good\n", server.name)
            server.restart()
            self.assertEqual(self.fetch(url + "&again=1"), "good\n", server.name)
            server.stop()

    def test_apache_remembers_passwords_in_it(self):
        for kind in (Server.ebbd, Server.memcached):
            server = self.serve(kind)
            port = free_port()
            os.mkdir(os.path.join(server.folder, "pages"))
            self.write(server, "pages/page", "for those who may\n")
            self.write(server, "users", "ann:{SHA}" + base64.b64encode(hashlib.sha1(b"secret").digest()).decode() + "\n")
            path = self.write(server, "apache.conf", APACHE.format(folder=server.folder, port=port, cache=server.port,
                                                                   modules="/usr/lib/apache2/modules"))
            self.start(server, "/usr/sbin/apache2", "-X", "-f", path)  # one process
            self.wait_for_port(port)

            def page(password):
                word = base64.b64encode(b"ann:" + password).decode()
                return self.fetch(urllib.request.Request(f"http://127.0.0.1:{port}/page", headers={"Authorization": "Basic " + word}))

            self.assertEqual([page(b"secret") for _ in range(2)], ["for those who may\n"] * 2)
            with self.assertRaises(urllib.error.HTTPError) as refused:
                page(b"wrong")
            self.assertEqual(refused.exception.code, 401)
            refused.exception.close()
            peer = server.connect()
            stats = peer.stats()
            peer.close()
            self.assertEqual([stats[name] for name in ("cmd_set", "get_misses", "get_hits")], ["1", "1", "2"], server.name)
            server.stop()

    def test_twemproxy_shares_keys_out_among_two(self):
        one, two = self.serve(Server.ebbd), self.serve(Server.ebbd)
        port = free_port()
        path = self.write(one, "nutcracker.yml", NUTCRACKER.format(port=port, one=one.port, two=two.port))
        self.start(one, "/usr/sbin/nutcracker", "-c", path, "-s", str(free_port()), "-a", "127.0.0.1")
        self.wait_for_port(port)
        proxy = Peer(socket.create_connection(("127.0.0.1", port), REPLY_SECONDS_MAX))
        for i in range(200):
            self.assertEqual(proxy.set(b"key-%d" % i, b"value-%d" % i), b"STORED")
        proxy.send(b"get %s\r\n" % b" ".join(b"key-%d" % i for i in range(200)))
        found = {}
        while (head := proxy.line().split()) != [b"END"]:
            found[head[1]] = proxy.read(int(head[3]) + 2)[:-2]
        self.assertEqual(found, {b"key-%d" % i: b"value-%d" % i for i in range(200)})
        counts = []
        for server in (one, two):
            peer = server.connect()
            counts.append(int(peer.stats()["curr_items"]))
            peer.close()
        self.assertEqual(sum(counts), 200)
        self.assertGreater(min(counts), 0)
        proxy.close()
        one.stop()
        two.stop()

    def test_collectd_writes_the_same_series(self):
        series = []
        for server in self.both():
            path = self.write(server, "collectd.conf", COLLECTD.format(cache=server.port, folder=server.folder))
            self.start(server, "/usr/sbin/collectd", "-f", "-C", path, "-P", os.path.join(server.folder, "collectd.pid"))
            pattern = os.path.join(server.folder, "csv", "*", "memcached-cache", "*")

            def named():
                return {re.sub(r"-\d+-\d+-\d+$", "", os.path.basename(path)): path for path in glob.glob(pattern)}

            def items():
                path = named().get("memcached_items-current", os.devnull)
                with open(path) as file:
                    return [float(line.split(",")[1]) for line in file.read().splitlines()[1:]]

            self.wait(lambda: len(items()) >= 3)  # what needs two readings is there, too
            self.assertEqual(items()[0], 10)
            series.append(set(named()))
        self.assertGreater(len(series[0]), 20)
        self.assertEqual(*series)

    def test_munin_draws_the_same_graphs(self):
        said = []
        for server in self.both():
            values = {}
            for graph in ("bytes", "counters", "rates"):
                link = os.path.join(server.folder, "memcached_" + graph)
                os.symlink(MUNIN, link)
                values.update(re.findall(r"(\w+)\.value (\d+)", self.run_once(link, port=str(server.port))))
            self.assertEqual((values["memcache_cache_hits"], values["memcache_cmd_set"], values["memcache_curr_items"]),
                             ("1", "10", "10"))
            said.append(set(values))
        self.assertEqual(*said)

    def test_check_memcached_counts_and_keeps_its_history(self):
        for server in self.both():
            words = [CHECK, "-H", "127.0.0.1", "-p", str(server.port), "-v"]
            for stored in ("stored", "not stored"):  # it keeps its history in the cache, one entry in 30 seconds
                done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)
                self.assertEqual(done.returncode, 0, done.stdout)
                self.assertRegex(done.stderr + done.stdout, rf"cmd_get=\d+ cmd_set=\d+ get_hits=\d+ get_misses=\d+ evictions=0[^(]*\({stored}\)")


if __name__ == "__main__":
    unittest.main()
