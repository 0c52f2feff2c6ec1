#!/usr/bin/python3
"""The command line: what is refused, with which status and sentence; whose exit status it is."""
import os
import subprocess

import adopted
import servers
from adopted import TOOL


def run(*words, environment=()):
    return subprocess.run([TOOL, "run", *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                          env={**os.environ, **dict(environment)})


def refused(status, sentence, *words, **more):
    got = run(*words, **more)
    assert got.returncode == status and got.stderr == f"ebb-adopt: {sentence}\n" and got.stdout == "", got


def test_a_program_that_is_not_there_is_127():
    refused(127, "no-such-program: no such program in $PATH", "--", "no-such-program")
    refused(127, "/no/such/program: no such program", "--", "/no/such/program")


def test_a_file_that_cannot_be_run_is_126():
    refused(126, "/etc/passwd: is no file that this user may execute", "--", "/etc/passwd")


def test_no_program_is_a_usage_error():
    refused(64, "run: no program is given: put it, and its arguments, behind --", "--or-plain")


def test_an_unknown_flag_is_a_usage_error():
    got = run("--no-such-flag", "--", "true")
    assert got.returncode == 64 and "--no-such-flag" in got.stderr and got.stderr.count("\n") == 1, got


def test_the_exit_status_is_the_programs():
    assert run("--", "sh", "-c", "exit 42").returncode == 42
    assert run("--", "sh", "-c", "kill -KILL $$").returncode == 137
    assert run("--exit-status-on-leak", "--", "true").returncode == 0


def test_standard_input_and_output_are_the_programs():
    got = subprocess.run([TOOL, "run", "--log-file=/dev/null", "--", "tr", "a-z", "A-Z"], input="hello", capture_output=True,
                         text=True, timeout=60)
    assert (got.returncode, got.stdout, got.stderr) == (0, "HELLO", ""), got


def test_a_script_is_watched_by_its_interpreter():
    path = os.path.join(servers.test_folder("script"), "script")
    with open(path, "w") as file:
        file.write("#!/bin/sh\nexit 9\n")
    os.chmod(path, 0o755)
    assert run("--", path).returncode == 9


def build(name, *flags):
    folder = servers.test_folder("binary")
    path = os.path.join(folder, name)
    with open(path + ".c", "w") as file:
        file.write("int main(void) { return 11; }\n")
    subprocess.run(["cc", "-o", path, path + ".c", *flags], check=True, timeout=60)
    return path


def test_a_static_program_is_refused_or_runs_plainly():
    path = build("static", "-static")
    refused(126, f"{path} is linked statically: there is no malloc to put another in place of", "--", path)
    assert run("--or-plain", "--", path).returncode == 11


def test_a_setuid_program_is_refused_or_runs_plainly():
    path = build("setuid")
    os.chmod(path, 0o4755)
    refused(126, f"{path} is setuid or setgid: the system preloads nothing into it", "--", path)
    assert run("--or-plain", "--", path).returncode == 11


def test_reclaiming_too_early_is_a_usage_error():
    refused(64, "--reclaim 2: 0, or at least 3 rounds", "--reclaim=2", "--", "true")


def test_a_program_with_a_collector_of_its_own_is_refused():
    ebbd = os.environ.get("EBB_EBBD", servers.EBBD)
    refused(126, f"{ebbd} uses libgc itself, and two heaps of one library cannot share a process", "--", ebbd)


def test_another_preloaded_library_is_refused():
    refused(126, "LD_PRELOAD=libm.so.6 is set, which may bring another malloc: unset it", "--", "true",
            environment={"LD_PRELOAD": "libm.so.6"})


def test_a_dead_supervisor_does_not_stop_the_program():
    with adopted.Adopted([adopted.PROGRAM, "slow"]) as watched:
        watched.ready()
        program = watched.rounds(2)[0]["process"]
        watched.process.kill()
        watched.process.wait()
        with open(f"/proc/{program}/comm") as file:
            assert file.read().startswith("adopt_program")
        watched.go()

        def gone():
            try:
                with open(f"/proc/{program}/stat") as file:
                    return True if file.read().split(")")[1].split()[0] == "Z" else None
            except FileNotFoundError:
                return True
        adopted.until(gone, "the program's end")


if __name__ == "__main__":
    adopted.main(globals())
