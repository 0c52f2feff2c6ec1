/* meta lines: what they become, and the errors memcached 1.6.45 has for them. */
#include "ebbd/proto/meta.h"
#include "harness.h"

static struct meta parse(enum request_verb verb, const char *rest) {
    static struct meta meta; /* its spans point into it */
    meta_parse(verb, ebb_span_of(rest), &meta);
    return meta;
}

static void ck_error(enum request_verb verb, const char *rest, const char *error) {
    struct meta meta = parse(verb, rest);
    ck_assert_msg(ebb_span_equal(meta.error, ebb_span_of(error)), "%s: %.*s", rest,
                  (int)meta.error.length, meta.error.at);
}

START_TEST(flags_come_in_their_order_with_their_tokens) {
    struct meta meta = parse(REQUEST_mg, " key v T30 Oabc R-1");
    ck_assert_uint_eq(meta.error.length, 0);
    ck_assert(ebb_span_equal(meta.key, EBB_SPAN("key")));
    ck_assert_uint_eq(meta.flags, 4);
    ck_assert(ebb_span_equal(meta.flag[2], EBB_SPAN("Oabc")));
    ck_assert_int_eq(meta.ttl, 30);
    ck_assert_int_eq(meta.recache_ttl, -1);
    ck_assert(meta_has(&meta, 'v') && !meta_has(&meta, 'k'));
}
END_TEST

START_TEST(a_mode_is_known_by_its_first_letter) {
    ck_assert_int_eq(parse(REQUEST_ms, "k 1 MSX").mode, 'S');
    ck_assert_int_eq(parse(REQUEST_ms, "k 1 M").mode, META_MODE_NONE);
    ck_assert_int_eq(parse(REQUEST_ms, "k 1").mode, 0);
    ck_assert_uint_eq(parse(REQUEST_mg, "k M").error.length, 0);
}
END_TEST

START_TEST(an_explicit_cas_is_read) {
    ck_assert_uint_eq(parse(REQUEST_ms, "k 1 E18446744073709551615").cas_new, UINT64_MAX);
    ck_assert_uint_eq(parse(REQUEST_ms, "k 1 C7").cas_new, 0);
    struct meta meta = parse(REQUEST_md, "k x");
    ck_assert(meta.error.length == 0 && meta_has(&meta, 'x'));
}
END_TEST

START_TEST(delta_is_one_unless_it_is_given) {
    ck_assert_uint_eq(parse(REQUEST_ma, "n").delta, 1);
    ck_assert_uint_eq(parse(REQUEST_ma, "n D18446744073709551615").delta, UINT64_MAX);
}
END_TEST

START_TEST(errors_are_memcacheds) {
    ck_error(REQUEST_mg, "", "CLIENT_ERROR bad command line format");
    ck_error(REQUEST_mg, "k v v", "CLIENT_ERROR duplicate flag");
    ck_error(REQUEST_mg, "k \xff", "CLIENT_ERROR duplicate flag");
    ck_error(REQUEST_mg, "k z", "CLIENT_ERROR invalid flag");
    ck_error(REQUEST_mg, "k S1", "CLIENT_ERROR invalid flag");
    ck_error(REQUEST_mg, "k E", "CLIENT_ERROR bad token in command line format");
    ck_error(REQUEST_mg, "k T", "CLIENT_ERROR bad token in command line format");
    ck_error(REQUEST_mg, "k Fx", "CLIENT_ERROR bad command line format");
    ck_error(REQUEST_mg, "k T Fx", "CLIENT_ERROR bad token in command line format");
    ck_error(REQUEST_mg, "A b", "CLIENT_ERROR error decoding key");
    ck_error(REQUEST_md, "k z", "CLIENT_ERROR invalid flag");
    ck_error(REQUEST_ma, "k z", "CLIENT_ERROR invalid or duplicate flag");
    ck_error(REQUEST_mg, "k T4000000000", "CLIENT_ERROR bad token in command line format");
    ck_error(REQUEST_mg, "k F4294967296", "CLIENT_ERROR bad command line format");
    ck_error(REQUEST_ms, "k", "CLIENT_ERROR bad command line format");
    ck_error(REQUEST_ms, "k -1", "CLIENT_ERROR bad command line format");
    ck_error(REQUEST_mg, "k 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9",
             "CLIENT_ERROR options flags are too long");
    ck_error(REQUEST_ma, "k 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9",
             "CLIENT_ERROR invalid or duplicate flag");
    ck_error(REQUEST_md, "QUJD s t c f v h u q I k O1 P L b N1 T1 R1 F1", "");
}
END_TEST

START_TEST(a_block_follows_once_its_length_is_known) {
    ck_assert(!parse(REQUEST_ms, "k a").has_block);
    struct meta meta = parse(REQUEST_ms, "k 5 z");
    ck_assert_uint_gt(meta.error.length, 0);
    ck_assert(meta.has_block);
    ck_assert_uint_eq(meta.value_length, 5);
    char line[300];
    memset(line, 'k', sizeof(line));
    strcpy(line + 251, " 7"); /* NOLINT: it fits */
    meta = parse(REQUEST_ms, line);
    ck_assert(meta.has_block && meta.error.length > 0 && meta.value_length == 7);
    meta = parse(REQUEST_ms, "k 7 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9");
    ck_assert(meta.has_block && meta.error.length > 0 && meta.value_length == 7);
    ck_assert(!parse(REQUEST_ms, "k 4294967297").has_block);
}
END_TEST

START_TEST(an_opaque_that_is_too_long_hides_what_follows) {
    struct meta meta = parse(REQUEST_mg, "k T1 Oabcdefghijklmnopqrstuvwxyz0123456 N1");
    ck_assert(meta_is_cut(&meta));
    ck_assert_uint_eq(meta.shown, 1);
    ck_assert(meta.reached & META_FLAG('T'));
    ck_assert(!(meta.reached & META_FLAG('N')));
    ck_assert(meta_has(&meta, 'N'));
}
END_TEST

HARNESS_MAIN("meta", flags_come_in_their_order_with_their_tokens,
             a_mode_is_known_by_its_first_letter, an_explicit_cas_is_read,
             delta_is_one_unless_it_is_given, errors_are_memcacheds,
             a_block_follows_once_its_length_is_known,
             an_opaque_that_is_too_long_hides_what_follows)
