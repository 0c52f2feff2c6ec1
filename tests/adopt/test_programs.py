#!/usr/bin/python3
"""Programs that keep and lose blocks in a known way: what is lost is told by function, and nothing else."""
import os
import subprocess

import adopted
from adopted import PLUGIN, PROGRAM, Adopted, disproofs, is_nearly, lost_by_function


def watch(case, *more, rounds=3, flags=()):
    """Runs a case to its end. Returns the report of the program itself after those rounds, and the last one."""
    with Adopted([PROGRAM, case, *more], flags=flags) as watched:
        watched.ready()
        middle = watched.rounds(rounds)
        watched.go()
    assert watched.status == 5, (watched.status, open(watched.stderr.name).read())
    assert disproofs(watched.report) == [], watched.report
    return middle, watched.report


def test_slow_leaks_are_told_by_function_and_no_living_block_is():
    planted = {"lose_one_in_64": 1563, "lose_one_in_1000": 100, "lose_one_in_10000": 10}
    middle, last = watch("slow")
    assert is_nearly(lost_by_function(middle[0]), planted), lost_by_function(middle[0])
    assert is_nearly(lost_by_function(last[0]), planted), lost_by_function(last[0])


def test_what_ended_threads_lost_is_told_and_what_living_ones_hold_is_not():
    middle, _ = watch("threads")
    assert is_nearly(lost_by_function(middle[0]), {"lose_in_thread": 8000}), middle


def test_pointers_in_every_place_are_seen():
    middle, last = watch("places")
    assert lost_by_function(middle[0]) == {} and lost_by_function(last[0]) == {}, (middle, last)


def test_coroutines_hold_what_is_on_their_stacks():
    middle, last = watch("coroutines")
    assert lost_by_function(middle[0]) == {} and lost_by_function(last[0]) == {}, (middle, last)


def test_a_program_that_blocks_and_handles_all_signals_is_judged():
    middle, _ = watch("signals")
    assert middle[0]["given_up"] == 0, middle


def test_children_are_watched_and_wait_sees_no_other():
    with Adopted([PROGRAM, "forks"]) as watched:
        watched.ready()

        def all_told():
            lost = [lost_by_function(p) for p in watched.now() or []]
            return lost if sum(is_nearly(each, {"lose_in_child": 1000}) for each in lost) == 8 else None
        adopted.until(all_told, "the children's loss")
        watched.go()
    assert watched.status == 5, watched.status
    assert disproofs(watched.report) == [], watched.report


def test_a_daemon_is_watched_until_it_ends():
    with Adopted([PROGRAM, "background"]) as watched:
        def told():
            lost = [lost_by_function(p) for p in watched.now() or [] if not p["ended"]]
            return True if any(is_nearly(each, {"lose_in_child": 1000}) for each in lost) else None
        adopted.until(told, "the daemon's loss")
        assert watched.process.poll() is None
        watched.terminate()
    assert watched.status == 0, watched.status


def test_an_unloaded_library_loses_what_its_variables_kept():
    with Adopted([PROGRAM, "libraries", PLUGIN]) as watched:
        watched.ready()
        assert lost_by_function(watched.rounds(3)[0]) == {}
        watched.go()
        watched.ready()
        watched.rounds(3)
        lost = {"lose_with_plugin": sum(site["lost"] for site in watched.now()[0]["sites"])}
        assert is_nearly(lost, {"lose_with_plugin": 500}), watched.now()
        watched.go()
    assert watched.status == 5 and disproofs(watched.report) == []


def test_the_family_of_malloc_keeps_its_promises():
    watch("family", rounds=1)


def test_a_block_that_is_freed_after_it_was_called_lost_disproves_the_alarm():
    with Adopted([PROGRAM, "doubtful"], flags=["--exit-status-on-leak"]) as watched:
        watched.ready()
        assert lost_by_function(watched.rounds(3)[0]) == {"hide_one": 1}
        watched.go()
        watched.ready()
        watched.rounds(2)
        watched.go()
    site, = watched.report[0]["sites"]
    assert (site["lost"], site["freed"], site["reached"], site["written"]) == (0, 1, 0, 0), site
    assert watched.status == 5 and "used again" in open(watched.log).read()


def test_what_is_lost_is_reclaimed_and_nothing_else():
    with Adopted([PROGRAM, "slow"], flags=["--reclaim=3"]) as watched:
        watched.ready()

        def reclaimed():
            now = watched.now()
            return now if now and now[0]["reclaimed"] >= 1650 and now[0]["lost"] == 0 else None
        process, = adopted.until(reclaimed, "all that is lost")
        freed = {site["path"][0].split(" ")[0].strip("_"): site["reclaimed"] for site in process["sites"]}
        assert is_nearly(freed, {"lose_one_in_64": 1563, "lose_one_in_1000": 100, "strdup": 10}), freed
        watched.go()
    assert watched.status == 5 and disproofs(watched.report) == []


def test_a_double_free_does_nothing_and_is_told():
    with Adopted([PROGRAM, "misfree"]) as watched:
        watched.ready()
        watched.rounds(3)
        watched.go()
    assert watched.status == 5 and "freed blocks that were free: 1 times" in open(watched.log).read()


def test_a_program_that_confines_itself_is_left_alone():
    with Adopted([PROGRAM, "confined"]) as watched:
        watched.ready()
        adopted.until(lambda: "it confines itself" in open(watched.log).read() or None, "the reason")
        watched.go()
    assert watched.status == 5, watched.status


def test_report_asks_a_running_one_by_name_and_by_number():
    with Adopted([PROGRAM, "slow"]) as watched:
        watched.ready()
        number = str(watched.rounds(3)[0]["process"])
        for words in ([number], [os.path.basename(PROGRAM)[:15]], [number, "--json"]):
            answer = subprocess.run([adopted.TOOL, "report", *words], capture_output=True, text=True, timeout=60)
            assert answer.returncode == 0 and "lose_one_in_64" in answer.stdout, answer
        nobody = subprocess.run([adopted.TOOL, "report", "nobody"], capture_output=True, text=True, timeout=60)
        assert nobody.returncode == 1 and nobody.stderr == "ebb-adopt: no watched process nobody has reported\n", nobody
        watched.go()
    assert watched.status == 5


if __name__ == "__main__":
    adopted.main(globals())
