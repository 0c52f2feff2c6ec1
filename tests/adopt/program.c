/* program -- what a test has watched: it keeps and loses blocks in a known way.
 *
 * `program CASE`: does the case, prints "ready", waits for a line, and ends. Blocks are lost only
 * in functions whose name begins with lose_, so a report that names another function is wrong. */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
enum { SLOW = 100000, THREADS = 8, EACH = 1000, STACK_BYTES = 256 << 10, DESCRIPTORS = 1024 };

static void *volatile kept[3 * SLOW];
static char *library;

/* Overwrites what calls have left on the stack and in registers, those of memmove as well. */
NOINLINE static void scrub(void) {
    static char zeroes[2][4096];
    volatile char bytes[16384];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = 0;
    for (volatile size_t length = 8; length <= sizeof zeroes[0]; length *= 2)
        memmove(zeroes[0], zeroes[1], length);
    __asm__ volatile("xor %%ebx, %%ebx; xor %%r12d, %%r12d; xor %%r13d, %%r13d; xor %%r14d, "
                     "%%r14d; xor %%r15d, %%r15d" ::
                         : "rbx", "r12", "r13", "r14", "r15");
}

static void check(int good, const char *what) {
    if (good)
        return;
    fprintf(stderr, "program: %s (%s)\n", what, strerror(errno));
    exit(1);
}

/* Tells the test, and waits for it. */
static void wait_for_test(void) {
    char line[16];
    printf("ready\n");
    fflush(stdout);
    check(fgets(line, sizeof line, stdin) != NULL, "the test has gone");
}

/* --- slow leaks: one block among many that live --- */

NOINLINE static void *lose_one_in_64(void) {
    return malloc(40);
}
NOINLINE static void *lose_one_in_1000(void) {
    return calloc(3, 30);
}
NOINLINE static void *lose_one_in_10000(void) {
    return strdup("a short text");
}

NOINLINE static void make_slow(void) {
    for (int i = 0; i < SLOW; i++) {
        kept[3 * i] = lose_one_in_64();
        kept[3 * i + 1] = lose_one_in_1000();
        kept[3 * i + 2] = lose_one_in_10000();
        if (i % 64 == 0)
            kept[3 * i] = NULL;
        if (i % 1000 == 0)
            kept[3 * i + 1] = NULL;
        if (i % 10000 == 0)
            kept[3 * i + 2] = NULL;
    }
}

static void slow(void) {
    make_slow();
    scrub();
    wait_for_test();
}

/* --- threads: lost by those that have ended, kept by those that live --- */

static pthread_barrier_t all_ready, may_end;
static __thread void *thread_kept;
static pthread_key_t key;

NOINLINE static void lose_in_thread(void) {
    for (int i = 0; i < EACH; i++)
        kept[0] = malloc(24);
}

static void *ending_thread(void *arg) {
    (void)arg;
    lose_in_thread();
    kept[0] = NULL;
    scrub();
    return NULL;
}

NOINLINE static void *keep_block(size_t size) {
    char *at = malloc(size);
    memset(at, 'k', size);
    return at;
}

/* Holds blocks in each of the places that a thread has. */
static void *living_thread(void *arg) {
    (void)arg;
    void *on_stack[EACH];
    for (int i = 0; i < EACH; i++)
        on_stack[i] = keep_block(100);
    thread_kept = keep_block(200);
    pthread_setspecific(key, keep_block(300));
    scrub();
    pthread_barrier_wait(&all_ready);
    pthread_barrier_wait(&may_end);
    for (int i = 0; i < EACH; i++)
        free(on_stack[i]);
    free(thread_kept);
    free(pthread_getspecific(key));
    return NULL;
}

static void threads(void) {
    pthread_t thread[THREADS];
    pthread_key_create(&key, NULL);
    pthread_barrier_init(&all_ready, NULL, THREADS + 1);
    pthread_barrier_init(&may_end, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        check(pthread_create(&thread[i], NULL, ending_thread, NULL) == 0, "pthread_create");
        pthread_join(thread[i], NULL);
    }
    for (int i = 0; i < THREADS; i++)
        check(pthread_create(&thread[i], NULL, living_thread, NULL) == 0, "pthread_create");
    pthread_barrier_wait(&all_ready);
    wait_for_test();
    pthread_barrier_wait(&may_end);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

/* --- all the places where a pointer may be kept; nothing is lost --- */

struct link {
    struct link *next;
};
static struct link *chain;
static char *interior;
static int epoll;

NOINLINE static void keep_everywhere(void **mapped) {
    for (int i = 0; i < EACH; i++) {
        struct link *link = keep_block(i % 5000 + sizeof *link);
        link->next = chain;
        chain = link;
    }
    for (int i = 0; i < EACH; i++)
        mapped[i] = aligned_alloc(64, 192);
    interior = (char *)keep_block(100000) + 70000;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = keep_block(64)};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) == 0, "epoll_ctl");
}

static void places(void) {
    struct epoll_event event;
    void **mapped = mmap(NULL, EACH * sizeof *mapped, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    check(mapped != MAP_FAILED && epoll >= 0, "mmap, epoll");
    keep_everywhere(mapped);
    scrub();
    printf("ready\n");
    fflush(stdout);
    while (epoll_wait(epoll, &event, 1, -1) != 1)
        check(errno == EINTR, "epoll_wait");
    check(((char *)event.data.ptr)[63] == 'k', "what epoll kept has changed");
    free(event.data.ptr);
    free(interior - 70000);
    for (int i = 0; i < EACH; i++)
        free(mapped[i]);
    while (chain) {
        struct link *next = chain->next;
        free(chain);
        chain = next;
    }
}

/* --- coroutines, on a mapped stack and on one from malloc, each with blocks of its own --- */

static ucontext_t main_context, coroutine[2];

static void in_coroutine(int number) {
    void *own[EACH];
    for (int i = 0; i < EACH; i++)
        own[i] = keep_block(50);
    scrub();
    if (number == 0)
        swapcontext(&coroutine[0], &main_context);
    else
        wait_for_test(); /* rounds come while this stack is the one in use */
    for (int i = 0; i < EACH; i++)
        free(own[i]);
    swapcontext(&coroutine[number], &main_context);
}

static void coroutines(void) {
    void *stack[2] = {
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        malloc(STACK_BYTES)};
    for (int i = 0; i < 2; i++) {
        getcontext(&coroutine[i]);
        coroutine[i].uc_stack.ss_sp = stack[i];
        coroutine[i].uc_stack.ss_size = STACK_BYTES;
        makecontext(&coroutine[i], (void (*)(void))(uintptr_t)in_coroutine, 1, i);
        swapcontext(&main_context, &coroutine[i]);
    }
    swapcontext(&main_context, &coroutine[0]);
    free(stack[1]);
}

/* --- signals: all blocked, all handled, and ours in none of what is shown --- */

static void on_signal(int number) {
    (void)number;
}

static void signals(void) {
    sigset_t all, now;
    struct sigaction action = {.sa_handler = on_signal};
    int hidden = 0, descriptor;
    sigfillset(&all);
    sigfillset(&action.sa_mask);
    for (int number = 1; number < NSIG; number++)
        if (number != SIGTERM && number != SIGINT)
            sigaction(number, &action, NULL);
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        signal(number, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    sigprocmask(SIG_BLOCK, &all, &now);
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        hidden += !sigismember(&now, number);
    check(hidden == 1, "not one signal, and that alone, is left out of the mask");
    descriptor = signalfd(-1, &all, SFD_CLOEXEC);
    check(descriptor >= 0, "signalfd");
    wait_for_test();
    raise(SIGUSR1);
    struct signalfd_siginfo info;
    while (read(descriptor, &info, sizeof info) != sizeof info)
        check(errno == EINTR, "signalfd");
    check(info.ssi_signo == SIGUSR1, "another signal than was sent came out of signalfd");
}

/* --- forks --- */

NOINLINE static void lose_in_child(void) {
    for (int i = 0; i < EACH; i++)
        kept[0] = malloc(48);
    kept[0] = NULL;
    scrub();
}

/* Several children lose; the parent only keeps, and sees those children alone in its wait. */
static void forks(void) {
    pid_t child[THREADS];
    int pipes[2], status;
    check(pipe(pipes) == 0, "pipe");
    kept[1] = keep_block(1000);
    for (int i = 0; i < THREADS; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            char byte;
            close(pipes[1]);
            lose_in_child();
            while (read(pipes[0], &byte, 1) < 0 && errno == EINTR)
                ;
            exit(7);
        }
    }
    wait_for_test();
    close(pipes[1]);
    for (int i = 0; i < THREADS; i++) {
        pid_t ended;
        while ((ended = wait(&status)) < 0 && errno == EINTR)
            ;
        check(WIFEXITED(status) && WEXITSTATUS(status) == 7, "a child ended otherwise");
        int known = 0;
        for (int j = 0; j < THREADS; j++)
            known |= child[j] == ended;
        check(known, "wait returned a child that was not forked");
    }
    check(wait(&status) < 0 && errno == ECHILD, "there is a child that was not forked");
    free((void *)kept[1]);
}

/* As a daemon starts: in the background, with all descriptors closed. */
static void background(void) {
    if (fork() > 0)
        exit(0);
    setsid();
    if (fork() > 0)
        exit(0);
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        close(fd);
    lose_in_child();
    for (;;)
        pause();
}

/* --- libraries that come and go --- */

static void libraries(void) {
    void *handle = dlopen(library, RTLD_NOW);
    check(handle != NULL, dlerror());
    void (*keep)(void) = (void (*)(void))(uintptr_t)dlsym(handle, "plugin_keep");
    keep();
    scrub();
    wait_for_test();
    dlclose(handle); /* with what its variables kept */
    scrub();
    wait_for_test();
}

/* --- the family of malloc, as the manual has it --- */

static void family(void) {
    void *at = NULL;
    for (size_t alignment = 16; alignment <= 1 << 21; alignment *= 2) {
        check(posix_memalign(&at, alignment, alignment / 2 + 3) == 0, "posix_memalign");
        check((uintptr_t)at % alignment == 0, "not aligned");
        memset(at, 1, alignment / 2 + 3);
        free(at);
    }
    check(posix_memalign(&at, 3, 10) == EINVAL, "an alignment of 3 was taken");
    for (size_t size = 0; size < 200000; size += 97) {
        unsigned char *zeroes = calloc(1, size);
        for (size_t i = 0; i < size; i++)
            check(zeroes[i] == 0, "calloc gave something else than zeroes");
        check(malloc_usable_size(zeroes) >= size, "malloc_usable_size is less than asked for");
        memset(zeroes, 0xff, malloc_usable_size(zeroes));
        unsigned char *grown = realloc(zeroes, 2 * size + 1);
        for (size_t i = 0; i < size; i++)
            check(grown[i] == 0xff, "realloc did not keep the contents");
        grown = realloc(grown, size / 3 + 1);
        check(grown[size / 3 > 0 ? size / 3 - 1 : 0] == (size > 2 ? 0xff : grown[0]),
              "realloc did not keep the contents");
        free(grown);
    }
    errno = 0;
    volatile size_t huge = SIZE_MAX / 2;
    check(malloc(huge) == NULL && errno == ENOMEM, "malloc gave half of all memory");
    check(calloc(huge, 16) == NULL && reallocarray(NULL, huge, 16) == NULL,
          "an overflow was taken");
    errno = 5;
    free(malloc(10));
    check(errno == 5, "free changed errno");
    wait_for_test();
}

/* --- a block that is called lost and used again: the alarm is disproved --- */

static uintptr_t hidden;

NOINLINE static void hide_one(void) {
    hidden = ~(uintptr_t)malloc(77);
}

static void doubtful(void) {
    hide_one();
    scrub();
    wait_for_test();
    free((void *)~hidden);
    wait_for_test();
}

/* --- a double free --- */

static void misfree(void) {
    void *volatile at = malloc(30);
    free(at);
    free(at);
    wait_for_test();
}

/* --- strict seccomp: read, write and exit are all that is allowed --- */

static void confined(void) {
    char line[16];
    check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0, "prctl");
    if (write(STDOUT_FILENO, "ready\n", 6) == 6 && read(STDIN_FILENO, line, sizeof line) > 0)
        syscall(SYS_exit, 5);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {{"slow", slow},
                 {"threads", threads},
                 {"places", places},
                 {"coroutines", coroutines},
                 {"signals", signals},
                 {"forks", forks},
                 {"background", background},
                 {"libraries", libraries},
                 {"family", family},
                 {"doubtful", doubtful},
                 {"misfree", misfree},
                 {"confined", confined}};
    library = argc > 2 ? argv[2] : NULL;
    for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(cases[i].name, argv[1]) == 0) {
            cases[i].run();
            return 5;
        }
    return 64;
}
