/* open: as root nothing is opened by a link that another user could have made; all else is as
 * open(2). Only root can try it: for others nothing is changed. */
#include "harness.h"

#include <base/open.h>
#include <errno.h>
#include <limits.h>
#include <sys/fsuid.h>
#include <sys/stat.h>

#define SOMEBODY 65534
#define WRITING  (O_WRONLY | O_CREAT | O_TRUNC)

static char secret[] = "only root's";

static bool is_root(void) {
    return getuid() == 0 && geteuid() == 0;
}

/* The others need it. Paths are relative: the folder that we are in is root's own. */
START_TEST(folders_are_made) {
    static char folder[] = "/tmp/ebb-test-open-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
    ck_assert_int_eq(mkdir("own", 0755), 0);
    ck_assert_int_eq(mkdir("theirs", 0755), 0);
    ck_assert_int_eq(chown("theirs", SOMEBODY, SOMEBODY), 0);
    int fd = open("secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, secret, sizeof(secret)), sizeof(secret));
    close(fd);
}
END_TEST

static void check_secret(void) {
    char now[sizeof(secret)] = "";
    int fd = open("secret", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, now, sizeof(now)), sizeof(secret));
    ck_assert_str_eq(now, secret);
    close(fd);
}

static void check_refused(const char *path, int flags, int error) {
    errno = 0;
    int fd = ebbi_open(path, flags, 0600);
    ck_assert_msg(fd < 0 && errno == error, "%s: %d, %s", path, fd, strerror(errno));
    check_secret();
}

static void check_opens(const char *path, int flags) {
    int fd = ebbi_open(path, flags, 0600);
    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
}

START_TEST(a_link_in_a_folder_of_another_user_is_not_followed) {
    ck_assert_int_eq(symlink("../secret", "theirs/log"), 0);
    ck_assert_int_eq(symlink("../own/made", "theirs/new"), 0);
    ck_assert_int_eq(symlink("../own", "theirs/way"), 0);
    check_refused("theirs/log", WRITING, ELOOP);
    check_refused("theirs/log", O_RDONLY, ELOOP);
    check_refused("theirs/new", WRITING, ELOOP);
    check_refused("theirs/way/made", WRITING, ELOOP);
    check_refused("own/../theirs/./way//made", WRITING, ELOOP);
    ck_assert_int_ne(access("own/made", F_OK), 0);
    check_opens("theirs/plain", WRITING);
    check_opens("theirs/plain", O_RDONLY);
}
END_TEST

START_TEST(a_folder_below_one_of_another_user_is_no_better) {
    ck_assert_int_eq(mkdir("theirs/deep", 0755), 0); /* root's, but it can be taken away */
    ck_assert_int_eq(symlink("../../secret", "theirs/deep/log"), 0);
    check_refused("theirs/deep/log", WRITING, ELOOP);
    check_opens("theirs/deep/plain", WRITING);
}
END_TEST

START_TEST(a_second_name_in_such_a_folder_is_refused_and_nothing_is_cut) {
    ck_assert_int_eq(link("secret", "theirs/second"), 0);
    check_refused("theirs/second", WRITING, EMLINK);
    ck_assert_int_eq(unlink("theirs/second"), 0);
    ck_assert_int_eq(link("secret", "own/second"), 0);
    check_opens("own/second", O_WRONLY);
    ck_assert_int_eq(unlink("own/second"), 0);
}
END_TEST

START_TEST(who_else_may_write_decides_not_only_who_owns) {
    ck_assert_int_eq(mkdir("open", 0755), 0);
    ck_assert_int_eq(symlink("../secret", "open/log"), 0);
    check_opens("open/log", O_WRONLY);
    ck_assert_int_eq(chmod("open", 01777), 0);
    check_refused("open/log", WRITING, ELOOP);
    ck_assert_int_eq(chmod("open", 0775), 0);
    check_opens("open/log", O_WRONLY); /* root's group */
    ck_assert_int_eq(chown("open", 0, SOMEBODY), 0);
    check_refused("open/log", WRITING, ELOOP);
}
END_TEST

START_TEST(a_link_in_a_folder_of_roots_own_is_followed) {
    char here[PATH_MAX], target[PATH_MAX + 16];
    ck_assert_int_eq(symlink("../secret", "own/log"), 0);
    ck_assert_int_eq(symlink("own", "way"), 0);
    ck_assert_int_eq(symlink("../own/later", "own/to-be-made"), 0);
    ck_assert_int_eq(symlink("../theirs", "own/out"), 0);
    ck_assert_int_eq(symlink("round", "own/round"), 0);
    check_opens("way/log", O_WRONLY);
    check_opens("own/to-be-made", WRITING);
    ck_assert_int_eq(access("own/later", F_OK), 0);
    check_opens("own/out/plain", WRITING);
    check_refused("own/out/log", WRITING, ELOOP); /* theirs again */
    check_refused("own/round", WRITING, ELOOP);
    snprintf(target, sizeof(target), "%s/own/absolute", getcwd(here, sizeof(here)));
    ck_assert_int_eq(symlink(target, "own/by-root"), 0);
    check_opens("own/by-root", WRITING);
}
END_TEST

START_TEST(a_link_of_proc_in_a_folder_of_roots_own_leads_to_what_has_no_path) {
    int ends[2];
    char target[64];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    snprintf(target, sizeof(target), "/proc/self/fd/%d", ends[1]);
    ck_assert_int_eq(symlink(target, "own/stream"), 0);
    check_opens(target, O_WRONLY);
    check_opens("own/stream", O_WRONLY | O_APPEND);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

START_TEST(as_the_user_all_is_as_the_kernel_allows_it) {
    ck_assert_int_eq(symlink("plain", "theirs/own-link"), 0);
    ck_assert(ebbi_acts_as_root());
    setfsuid(SOMEBODY);
    ck_assert(!ebbi_acts_as_root());
    int fd = ebbi_open("theirs/own-link", O_RDONLY, 0), error = errno;
    int other = ebbi_open("theirs/log", O_RDONLY, 0), other_error = errno;
    setfsuid(0);
    ck_assert_msg(fd >= 0 || error == EACCES, "%s", strerror(error)); /* the file is root's, 0600 */
    ck_assert_int_eq(other, -1);
    ck_assert_int_eq(other_error, EACCES);
    close(fd);
}
END_TEST

START_TEST(odd_paths_are_as_open_takes_them) {
    char long_word[NAME_MAX + 10];
    memset(long_word, 'x', sizeof(long_word) - 1);
    long_word[sizeof(long_word) - 1] = '\0';
    check_refused("", O_RDONLY, ENOENT);
    check_refused("none/file", O_RDONLY, ENOENT);
    check_refused("none", O_RDONLY, ENOENT);
    check_refused("secret/file", O_RDONLY, ENOTDIR);
    check_refused(long_word, WRITING, ENAMETOOLONG);
    check_refused("own", O_WRONLY, EISDIR);
    check_refused("own/log", O_WRONLY | O_CREAT | O_EXCL, EEXIST);
    check_opens("/", O_RDONLY | O_DIRECTORY);
    check_opens(".", O_RDONLY | O_DIRECTORY);
    check_opens("own/", O_RDONLY | O_DIRECTORY);
    check_opens("//dev//null", O_WRONLY);
}
END_TEST

START_TEST(a_folder_is_told_with_the_last_word_and_whether_the_way_can_change) {
    static const struct {
        const char *path, *word;
        bool way_exposed;
    } cases[] = {{"own/x", "x", false},
                 {"theirs/x", "x", false}, /* what is in it can, the way to it cannot */
                 {"theirs/deep/x", "x", true},
                 {"x", "x", false}};
    char word[PATH_MAX];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool way_exposed;
        int folder = ebbi_open_folder(cases[i].path, word, &way_exposed);
        ck_assert_int_ge(folder, 0);
        ck_assert_str_eq(word, cases[i].word);
        ck_assert_msg(way_exposed == cases[i].way_exposed, "%s", cases[i].path);
        close(folder);
    }
}
END_TEST

START_TEST(a_relative_path_is_made_absolute) {
    char here[PATH_MAX], expected[PATH_MAX + 8], out[PATH_MAX];
    snprintf(expected, sizeof(expected), "%s/a/b", getcwd(here, sizeof(here)));
    ebbi_absolute("a/b", out, sizeof(out));
    ck_assert_str_eq(out, expected);
    ebbi_absolute("/a/b", out, sizeof(out));
    ck_assert_str_eq(out, "/a/b");
}
END_TEST

int main(void) {
    const TTest *const tests[] = {
        folders_are_made,
        a_link_in_a_folder_of_another_user_is_not_followed,
        a_folder_below_one_of_another_user_is_no_better,
        a_second_name_in_such_a_folder_is_refused_and_nothing_is_cut,
        who_else_may_write_decides_not_only_who_owns,
        a_link_in_a_folder_of_roots_own_is_followed,
        a_link_of_proc_in_a_folder_of_roots_own_leads_to_what_has_no_path,
        as_the_user_all_is_as_the_kernel_allows_it,
        odd_paths_are_as_open_takes_them,
        a_folder_is_told_with_the_last_word_and_whether_the_way_can_change,
        a_relative_path_is_made_absolute,
    };
    if (!is_root()) {
        puts("skipped: only root can try it");
        return EXIT_SUCCESS;
    }
    return harness_run("open", tests, sizeof(tests) / sizeof(tests[0]));
}
