/* Loops: posts, timers, watches, signals, finalizers. Nothing here measures time; a test that hangs
 * has failed. */
#include "harness.h"
#include "refuse.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ebb/clock.h>
#include <ebb/loop.h>
#include <ebb/mem.h>
#include <ebb/thread.h>

#include "gc/finalizer.h"
#include "gc/types.h"

#define POSTERS          4
#define POSTS_PER_POSTER 5000
#define OBJECTS          200
#define LATE_NS          (60 * EBB_NS_PER_MS)

static struct ebb_loop *loop_open(void) {
    struct ebb_loop *loop;
    ebb_loop_library_start();
    ck_assert_msg(ebb_loop_new(&loop, "test") == EBB_OK, "%s", ebb_err_text());
    return loop;
}

static void stop(void *arg) {
    ebb_loop_stop(arg);
}

struct poster {
    struct ebb_thread *thread;
    struct ebb_loop *loop;
    int posted, ran, out_of_order;
    pthread_t looper;
};

struct work {
    struct poster *by;
    int number;
};

static struct {
    struct poster poster[POSTERS];
    int done;
} posting;

static void work_run(void *arg) {
    struct work *work = arg;
    struct poster *by = work->by;
    by->out_of_order += work->number != by->ran || !pthread_equal(by->looper, pthread_self());
    if (++by->ran == POSTS_PER_POSTER && ++posting.done == POSTERS)
        ebb_loop_stop(by->loop);
}

/* Only the loop holds the work, while collections go on. */
static void post_many(void *arg) {
    struct poster *self = arg;
    for (; self->posted < POSTS_PER_POSTER; self->posted++) {
        struct work *work = ebb_new_sized(&ebbi_type_post, sizeof *work);
        *work = (struct work){self, self->posted};
        ebb_loop_post(self->loop, work_run, work);
        if (self->posted % 1000 == 999)
            ebb_collect(EBB_CAUSE_demand);
    }
}

START_TEST(posts_of_several_threads_run_in_order_on_the_loops_thread) {
    struct ebb_loop *loop = loop_open();
    memset(&posting, 0, sizeof posting);
    for (int i = 0; i < POSTERS; i++) {
        posting.poster[i] = (struct poster){.loop = loop, .looper = pthread_self()};
        ck_assert_int_eq(
            ebb_thread_start(&posting.poster[i].thread, "poster", post_many, &posting.poster[i]),
            EBB_OK);
    }
    ebb_loop_run(loop);
    for (int i = 0; i < POSTERS; i++) {
        ebb_thread_join(posting.poster[i].thread);
        ck_assert_int_eq(posting.poster[i].ran, POSTS_PER_POSTER);
        ck_assert_int_eq(posting.poster[i].out_of_order, 0);
    }
    ebb_loop_close(loop);
}
END_TEST

static void count_up(void *arg) {
    ++*(int *)arg;
}

START_TEST(what_was_posted_before_the_stop_has_run) {
    struct ebb_loop *loop = loop_open();
    int ran = 0;
    ebb_loop_post(loop, count_up, &ran);
    ebb_loop_stop(loop); /* before it runs at all: it ends at once */
    ebb_loop_post(loop, count_up, &ran);
    ebb_loop_run(loop);
    ck_assert_int_eq(ran, 2);
    ebb_loop_post(loop, stop, loop);
    ebb_loop_run(loop); /* and it can run again */
    ebb_loop_close(loop);
    ebb_loop_post(loop, count_up, &ran); /* late: nobody is there, nothing happens */
    ck_assert_int_eq(ran, 2);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
}
END_TEST

static void count_down(void *arg) {
    --*(int *)arg;
}

START_TEST(what_will_not_run_any_more_is_dropped_once) {
    struct ebb_loop *loop = loop_open();
    int sum = 0;
    ebb_loop_post_or_drop(loop, count_up, count_down, &sum);
    ebb_loop_post(loop, stop, loop);
    ebb_loop_run(loop);
    ck_assert_int_eq(sum, 1); /* it ran */
    ebb_loop_post_or_drop(loop, count_up, count_down, &sum);
    ebb_loop_post(loop, count_up, &sum);
    ebb_loop_close(loop);
    ck_assert_int_eq(sum, 0); /* one was dropped, the other forgotten */
    ebb_loop_post_or_drop(loop, count_up, count_down, &sum);
    ck_assert_int_eq(sum, -1); /* at once */
}
END_TEST

struct ticking {
    struct ebb_loop *loop;
    struct ebb_timer *once, *late, *again;
    char order[8];
    int count;
};

static void on_once(void *arg) {
    struct ticking *t = arg;
    strcat(t->order, "o");
}

static void on_late(void *arg) {
    struct ticking *t = arg;
    strcat(t->order, "l");
}

static void on_again(void *arg) {
    struct ticking *t = arg;
    t->count++;
    if (t->count < 3 || strlen(t->order) < 2)
        return;
    ebb_timer_close(t->again); /* in its own call */
    t->again = NULL;
    ebb_loop_stop(t->loop);
}

START_TEST(timers_fire_in_order_and_repeat) {
    struct ebb_loop *loop = loop_open();
    struct ticking t = {.loop = loop};
    t.late = ebb_timer_open(loop, 60, false, on_late, &t);
    t.once = ebb_timer_open(loop, 5, false, on_once, &t);
    t.again = ebb_timer_open(loop, 2, true, on_again, &t);
    ebb_loop_run(loop);
    ck_assert_str_eq(t.order, "ol");
    ck_assert_int_ge(t.count, 3);
    ebb_timer_close(t.once);
    ebb_timer_close(t.late);
    ebb_timer_close(NULL);
    ebb_loop_close(loop);
}
END_TEST

struct late_start {
    struct ebb_loop *loop;
    struct ebb_timer *timer;
    uint64_t opened_ns, fired_ns;
};

static void on_late_start(void *arg) {
    struct late_start *late = arg;
    late->fired_ns = ebb_clock_ns();
    ebb_loop_stop(late->loop);
}

static void work_and_open(void *arg) {
    struct late_start *late = arg;
    uint64_t until = ebb_clock_ns() + 2 * LATE_NS;
    while (ebb_clock_ns() < until)
        continue;
    late->opened_ns = ebb_clock_ns();
    late->timer = ebb_timer_open(late->loop, LATE_NS / EBB_NS_PER_MS, false, on_late_start, late);
}

START_TEST(a_timer_runs_from_when_it_is_opened_whatever_was_done_before_in_the_iteration) {
    struct ebb_loop *loop = loop_open();
    for (int i = 0; i < 3; i++) {
        struct late_start late = {.loop = loop};
        ebb_loop_post(loop, work_and_open, &late);
        ebb_loop_run(loop);
        ck_assert_uint_ge(late.fired_ns - late.opened_ns, LATE_NS);
        ebb_timer_close(late.timer);
    }
    ebb_loop_close(loop);
}
END_TEST

struct talk {
    struct ebb_loop *loop;
    struct ebb_watch *watch;
    int events, calls;
};

static void on_ready(int events, void *arg) {
    struct talk *talk = arg;
    talk->events |= events;
    talk->calls++;
    ebb_loop_stop(talk->loop);
}

static void run_one_iteration(struct ebb_loop *loop) {
    ebb_loop_post(loop, stop, loop);
    ebb_loop_run(loop);
}

START_TEST(a_watch_hears_what_it_asked_for_only) {
    struct ebb_loop *loop = loop_open();
    struct ebb_scope *scope = ebb_scope_new("test");
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    ebb_fd handle;
    ck_assert_int_eq(ebb_fd_adopt(&handle, scope, EBB_RESOURCE_socket, ends[0], "pair"), EBB_OK);
    struct talk talk = {.loop = loop};
    ok(ebb_watch_open(&talk.watch, loop, handle, EBB_READ, on_ready, &talk));
    run_one_iteration(loop);
    ck_assert_int_eq(talk.calls, 0); /* nothing to read yet */
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ebb_loop_run(loop);
    ck_assert_int_eq(talk.events, EBB_READ);
    ebb_watch_pause(talk.watch);
    talk.calls = 0;
    run_one_iteration(loop);
    ck_assert_int_eq(talk.calls, 0); /* paused, although there is something to read */
    ok(ebb_watch_set(talk.watch, EBB_READ | EBB_WRITE));
    ok(ebb_watch_set(talk.watch, EBB_READ | EBB_WRITE));
    ebb_loop_run(loop);
    ck_assert_int_eq(talk.events, EBB_READ | EBB_WRITE);
    ebb_watch_close(talk.watch);
    ebb_watch_close(NULL);
    talk.calls = 0;
    run_one_iteration(loop);
    ck_assert_int_eq(talk.calls, 0);
    ebb_scope_close(scope);
    close(ends[1]);
    ebb_loop_close(loop);
}
END_TEST

START_TEST(a_watch_that_the_system_refuses_waits_for_nothing_and_is_tried_again) {
    struct ebb_loop *loop = loop_open(), *none = NULL;
    struct ebb_scope *scope = ebb_scope_new("test");
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    ebb_fd handle;
    ok(ebb_fd_adopt(&handle, scope, EBB_RESOURCE_socket, ends[0], "pair"));
    struct talk talk = {.loop = loop};
    refuse_watches(0, 1);
    ck_assert_int_eq(ebb_watch_open(&talk.watch, loop, handle, EBB_READ, on_ready, &talk),
                     EBB_ERR_LIMIT);
    ck_assert_ptr_null(talk.watch);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), "fs.epoll.max_user_watches"));
    ok(ebb_watch_open(&talk.watch, loop, handle, 0, on_ready, &talk));
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    refuse_watches(0, 1);
    ck_assert_int_eq(ebb_watch_set(talk.watch, EBB_READ), EBB_ERR_LIMIT);
    run_one_iteration(loop);
    ck_assert_int_eq(talk.calls, 0);
    ok(ebb_watch_set(talk.watch, EBB_READ));
    ebb_loop_run(loop);
    ck_assert_int_eq(talk.events, EBB_READ);
    refuse_watches(0, 1);
    ck_assert_int_eq(ebb_loop_new(&none, "another"), EBB_ERR_LIMIT);
    ebb_watch_close(talk.watch);
    ebb_scope_close(scope);
    close(ends[1]);
    ebb_loop_close(loop);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
}
END_TEST

/* A watch that only libevent knows of, with an argument that only the watch knows of. */
struct held {
    struct ebb_loop *loop;
    struct ebb_watch *watch;
    uint64_t magic;
    int *calls;
};

static int held_calls;

static void on_held(int events, void *arg) {
    (void)events;
    struct held *held = arg;
    if (held->magic == 0x1ebb1ebb1ebb1ebbULL)
        ++*held->calls;
    ebb_watch_close(held->watch);
    ebb_loop_stop(held->loop);
}

struct hide {
    struct ebb_loop *loop;
    ebb_fd handle;
};

static void open_and_let_go(void *arg) {
    struct hide *hide = arg;
    struct held *held = ebb_new_sized(&ebbi_type_post, sizeof *held);
    held->loop = hide->loop;
    held->magic = 0x1ebb1ebb1ebb1ebbULL;
    held->calls = &held_calls;
    ok(ebb_watch_open(&held->watch, hide->loop, hide->handle, EBB_READ, on_held, held));
}

START_TEST(what_waits_in_a_loop_survives_collections) {
    struct ebb_loop *loop = loop_open();
    struct ebb_scope *scope = ebb_scope_new("test");
    struct hide hide = {.loop = loop};
    ck_assert_int_eq(ebb_fd_eventfd(&hide.handle, scope, "test"), EBB_OK);
    struct ebb_thread *thread;
    ck_assert_int_eq(ebb_thread_start(&thread, "hide", open_and_let_go, &hide), EBB_OK);
    ebb_thread_join(thread);
    ebb_collect_fully(EBB_CAUSE_demand);
    for (int i = 0; i < 10000; i++) /* give lost memory away */
        memset(ebb_new_sized(&ebbi_type_post, 64), 0xff, 64);
    ebb_collect_fully(EBB_CAUSE_demand);
    ck_assert_uint_eq(atomic_load(&ebbi_type_watch.leaked), 0);
    uint64_t one = 1;
    ck_assert_int_eq(write(ebb_fd_get(hide.handle), &one, sizeof one), sizeof one);
    ebb_loop_run(loop);
    ck_assert_int_eq(held_calls, 1);
    ebb_scope_close(scope);
    ebb_loop_close(loop);
}
END_TEST

START_TEST(a_signal_is_heard_on_the_loops_thread) {
    struct ebb_loop *loop = loop_open();
    struct ebb_signal *sig;
    ok(ebb_signal_open(&sig, loop, SIGUSR1, stop, loop));
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ebb_loop_run(loop);
    ebb_signal_close(sig);
    ebb_signal_close(NULL);
    ebb_loop_close(loop);
}
END_TEST

static void count_call(void *arg) {
    ++*(int *)arg;
}

START_TEST(of_many_signals_of_a_kind_one_is_acted_upon) {
    struct ebb_loop *loop = loop_open();
    struct ebb_signal *sig;
    int calls = 0;
    ok(ebb_signal_open(&sig, loop, SIGUSR1, count_call, &calls));
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < 10000; i++)
            ck_assert_int_eq(raise(SIGUSR1), 0);
        ebb_loop_post(loop, stop, loop);
        ebb_loop_run(loop);
        ck_assert_int_eq(calls, round);
    }
    ebb_signal_close(sig);
    ebb_loop_close(loop);
}
END_TEST

static char acted[8];

static void on_end(void *arg) {
    (void)arg;
    strcat(acted, "T");
}

static void on_user(void *arg) {
    (void)arg;
    strcat(acted, "U");
}

START_TEST(the_signal_to_end_goes_first) {
    struct ebb_loop *loop = loop_open();
    struct ebb_signal *user, *end;
    ok(ebb_signal_open(&user, loop, SIGUSR1, on_user, NULL));
    ok(ebb_signal_open(&end, loop, SIGTERM, on_end, NULL));
    ebb_loop_post(loop, stop, loop); /* and before what was posted */
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_int_eq(raise(SIGTERM), 0);
    ebb_loop_run(loop);
    ck_assert_str_eq(acted, "TU");
    ebb_signal_close(user);
    ebb_signal_close(end);
    ebb_loop_close(loop);
}
END_TEST

START_TEST(what_a_signal_did_before_it_does_again_once_nobody_hears_it) {
    struct ebb_loop *loop = loop_open();
    struct ebb_signal *sig, *none;
    struct sigaction now;
    signal(SIGUSR1, SIG_IGN);
    ok(ebb_signal_open(&sig, loop, SIGUSR1, stop, loop));
    ck_assert_int_eq(ebb_signal_open(&none, loop, SIGKILL, stop, loop), EBB_ERR_SYSTEM);
    ck_assert_ptr_null(none);
    ebb_loop_close(loop); /* before the signal */
    ck_assert_int_eq(sigaction(SIGUSR1, NULL, &now), 0);
    ck_assert_ptr_eq(now.sa_handler, SIG_IGN);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ebb_signal_close(sig);
    signal(SIGUSR1, SIG_DFL);
}
END_TEST

START_TEST(a_signal_to_a_forked_child_is_the_childs) {
    struct ebb_loop *loop = loop_open();
    int calls = 0, status = 0;
    struct ebb_signal *sig;
    ok(ebb_signal_open(&sig, loop, SIGUSR1, count_call, &calls));
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(20);
        for (;;)
            pause();
    }
    ck_assert_int_eq(kill(child, SIGUSR1), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1, "status %#x", status);
    ebb_loop_post(loop, stop, loop);
    ebb_loop_run(loop);
    ck_assert_int_eq(calls, 0);
    ebb_signal_close(sig);
    ebb_loop_close(loop);
}
END_TEST

static struct {
    struct ebb_loop *loop;
    pthread_t looper;
    int ran, elsewhere;
} finalizing;

static void on_finalized(void *object) {
    (void)object;
    finalizing.ran++;
    finalizing.elsewhere += !pthread_equal(finalizing.looper, pthread_self());
    ebb_loop_stop(finalizing.loop);
}

static void make_garbage(void *arg) {
    (void)arg;
    for (int i = 0; i < OBJECTS; i++)
        ebbi_finalizer_set(ebb_new_sized(&ebbi_type_post, 64), on_finalized);
    ebb_collect(EBB_CAUSE_demand);
}

START_TEST(finalizers_run_on_the_loops_thread) {
    struct ebb_loop *loop = loop_open();
    finalizing.loop = loop;
    finalizing.looper = pthread_self();
    ebb_loop_finalize_here(loop);
    struct ebb_thread *thread;
    ck_assert_int_eq(ebb_thread_start(&thread, "garbage", make_garbage, NULL), EBB_OK);
    ebb_loop_run(loop); /* ends when the first finalizer stops it */
    ebb_thread_join(thread);
    ck_assert_int_gt(finalizing.ran, 0);
    ck_assert_int_eq(finalizing.elsewhere, 0);
    ebb_loop_close(loop);
    ebb_collect_fully(EBB_CAUSE_demand); /* nobody is woken any more, and nothing breaks */
}
END_TEST

static void note_time(void *arg) {
    uint64_t **at = arg;
    **at = ebb_loop_now_ns((struct ebb_loop *)at[1]);
    uint64_t spin = ebb_clock_ns();
    while (ebb_clock_ns() == spin)
        ;
    if (at[2] != NULL)
        *at[2] = ebb_loop_now_ns((struct ebb_loop *)at[1]);
}

START_TEST(the_time_stands_still_within_a_turn_and_moves_between_turns) {
    struct ebb_loop *loop = loop_open();
    uint64_t first, second, third;
    void *one[] = {&first, loop, &second}, *two[] = {&third, loop, NULL};
    uint64_t before = ebb_clock_ns();
    ebb_loop_post(loop, note_time, one);
    run_one_iteration(loop);
    ebb_loop_post(loop, note_time, two);
    run_one_iteration(loop);
    ck_assert_uint_ge(first, before);
    ck_assert_uint_eq(first, second);
    ck_assert_uint_gt(third, second);
    ck_assert_uint_le(third, ebb_clock_ns());
    ebb_loop_close(loop);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
}
END_TEST

HARNESS_MAIN_COLLECTED(
    "loop", posts_of_several_threads_run_in_order_on_the_loops_thread,
    what_was_posted_before_the_stop_has_run, what_will_not_run_any_more_is_dropped_once,
    timers_fire_in_order_and_repeat,
    a_timer_runs_from_when_it_is_opened_whatever_was_done_before_in_the_iteration,
    a_watch_hears_what_it_asked_for_only,
    a_watch_that_the_system_refuses_waits_for_nothing_and_is_tried_again,
    what_waits_in_a_loop_survives_collections, a_signal_is_heard_on_the_loops_thread,
    of_many_signals_of_a_kind_one_is_acted_upon, the_signal_to_end_goes_first,
    what_a_signal_did_before_it_does_again_once_nobody_hears_it,
    a_signal_to_a_forked_child_is_the_childs, finalizers_run_on_the_loops_thread,
    the_time_stands_still_within_a_turn_and_moves_between_turns)
