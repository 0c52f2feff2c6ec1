/* guard: who may ask what of the admin address. */
#include "harness.h"

#include <daemon/guard.h>

static const struct ebbi_ask curl = {.peer = "127.0.0.1", .host = "127.0.0.1:9150"};
static const struct ebbi_ask button = {.post = true,
                                       .peer = "127.0.0.1",
                                       .host = "localhost:9150",
                                       .origin = "http://localhost:9150",
                                       .fetch_site = "same-origin",
                                       .fetch_mode = "cors"};

static bool may(struct ebbi_ask ask) {
    return ebbi_guard_refusal(&ask) == NULL;
}

static bool host_may(const char *host, bool post, bool names_allowed) {
    struct ebbi_ask ask = curl;
    ask.host = host;
    ask.post = post;
    ask.names_allowed = names_allowed;
    return may(ask);
}

START_TEST(programs_that_say_nothing_of_themselves_may_read_and_post) {
    struct ebbi_ask ask = curl;
    ck_assert(may(ask));
    ask.post = true;
    ck_assert(may(ask));
    ask.host = NULL; /* HTTP/1.0 */
    ck_assert(may(ask));
}
END_TEST

START_TEST(the_pages_own_buttons_may_post) {
    ck_assert(may(button));
}
END_TEST

START_TEST(a_host_is_a_literal_address_or_localhost) {
    static const char *const good[] = {"localhost",     "LOCALHOST:1", "127.0.0.1",
                                       "10.1.2.3:9150", "[::1]:9150",  "[fe80::1]"};
    static const char *const bad[] = {
        "evil.example",
        "evil.example:9150",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[::1",
        "127.1",
        ":9150",
        ("a-name-that-is-so-very-long-that-it-fits-no-room-of-ours-at-"
         "all-and-goes-on.example")};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        ck_assert_msg(host_may(good[i], false, false), "%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!host_may(bad[i], false, false), "%s", bad[i]);
}
END_TEST

START_TEST(an_address_open_to_others_may_be_read_by_any_name_but_not_posted_to) {
    ck_assert(host_may("cache1.example:9150", false, true));
    ck_assert(!host_may("cache1.example:9150", true, true));
}
END_TEST

START_TEST(only_this_machine_posts) {
    static const char *const good[] = {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"};
    static const char *const bad[] = {"10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "", "localhost"};
    struct ebbi_ask ask = button;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ask.peer = good[i];
        ck_assert_msg(may(ask), "%s", good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ask.peer = bad[i];
        ck_assert_msg(!may(ask), "%s", bad[i]);
    }
    struct ebbi_ask remote = curl;
    remote.peer = "10.0.0.1";
    ck_assert(may(remote));
}
END_TEST

START_TEST(a_post_from_another_origin_is_refused) {
    static const char *const origins[] = {"http://evil.example",
                                          "null",
                                          "http://localhost:3000",
                                          "https://localhost:9150",
                                          "http://localhost:9150.evil.example",
                                          ""};
    struct ebbi_ask ask = button;
    ask.fetch_site = ask.fetch_mode = NULL; /* an older browser */
    ck_assert(may(ask));
    for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++) {
        ask.origin = origins[i];
        ck_assert_msg(!may(ask), "%s", origins[i]);
    }
    ask.origin = button.origin;
    ask.host = NULL;
    ck_assert(!may(ask));
}
END_TEST

START_TEST(from_elsewhere_a_browser_may_only_follow_a_link) {
    struct ebbi_ask ask = curl;
    ask.fetch_site = "cross-site";
    ask.fetch_mode = "no-cors";
    ck_assert(!may(ask));
    ask.fetch_site = "same-site"; /* another port of this machine */
    ck_assert(!may(ask));
    ask.fetch_mode = "navigate";
    ck_assert(may(ask));
    ask.post = true; /* a form */
    ck_assert(!may(ask));
}
END_TEST

HARNESS_MAIN("guard", programs_that_say_nothing_of_themselves_may_read_and_post,
             the_pages_own_buttons_may_post, a_host_is_a_literal_address_or_localhost,
             an_address_open_to_others_may_be_read_by_any_name_but_not_posted_to,
             only_this_machine_posts, a_post_from_another_origin_is_refused,
             from_elsewhere_a_browser_may_only_follow_a_link)
