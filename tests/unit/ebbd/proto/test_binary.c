/* binary: bytes to frames, the shape of frames, answers. */
#include "harness.h"

#include <ebbd/proto/binary.h>

/* Room for a header and what these tests put behind it. */
struct bytes {
    char at[BINARY_HEADER + 600];
    size_t length;
};

static struct bytes frame_of(int opcode, size_t extras, size_t key, size_t value) {
    struct bytes bytes = {.length = BINARY_HEADER + extras + key + value};
    size_t body = extras + key + value;
    bytes.at[0] = (char)BINARY_MAGIC;
    bytes.at[1] = (char)opcode;
    bytes.at[2] = (char)(key >> 8);
    bytes.at[3] = (char)key;
    bytes.at[4] = (char)extras;
    bytes.at[10] = (char)(body >> 8);
    bytes.at[11] = (char)body;
    memcpy(bytes.at + 12, "opaq", 4);
    bytes.at[23] = 77;
    memset(bytes.at + BINARY_HEADER, 'e', extras);
    memset(bytes.at + BINARY_HEADER + extras, 'k', key);
    return bytes;
}

static enum binary_status status_of(struct bytes bytes, bool *closes) {
    struct binary frame;
    size_t taken;
    ck_assert_int_eq(binary_find(bytes.at, bytes.length, &frame, &taken), BINARY_FRAME);
    return binary_check(&frame, closes);
}

START_TEST(a_frame_is_there_with_its_key_whether_its_value_is_or_not) {
    struct bytes bytes = frame_of(BINARY_set, 8, 3, 10);
    struct binary frame;
    size_t taken;
    for (size_t length = 0; length < BINARY_HEADER + 11; length++)
        ck_assert_int_eq(binary_find(bytes.at, length, &frame, &taken), BINARY_MORE);
    ck_assert_int_eq(binary_find(bytes.at, BINARY_HEADER + 11, &frame, &taken), BINARY_FRAME);
    ck_assert_uint_eq(taken, BINARY_HEADER + 11);
    ck_assert_uint_eq(binary_value_length(&frame), 10);
    ck_assert(ebb_span_equal(frame.key, EBB_SPAN("kkk")));
    ck_assert_uint_eq(frame.cas, 77);
    ck_assert_int_eq(frame.verb, REQUEST_set);
    ck_assert_uint_eq(binary_u32(&frame, 4), 0x65656565);
}
END_TEST

START_TEST(another_magic_is_no_frame) {
    struct bytes bytes = frame_of(BINARY_noop, 0, 0, 0);
    struct binary frame;
    size_t taken;
    bytes.at[0] = (char)0x81;
    ck_assert_int_eq(binary_find(bytes.at, BINARY_HEADER - 1, &frame, &taken), BINARY_MORE);
    ck_assert_int_eq(binary_find(bytes.at, BINARY_HEADER, &frame, &taken), BINARY_BAD);
}
END_TEST

START_TEST(a_key_longer_than_the_read_buffer_is_waited_for_no_longer_than_that) {
    static char long_one[BINARY_HEAD_MAX + 1];
    struct bytes bytes = frame_of(BINARY_get, 0, 0, 0);
    struct binary frame;
    size_t taken;
    memcpy(long_one, bytes.at, BINARY_HEADER);
    long_one[2] = long_one[3] = (char)0xff;
    ck_assert_int_eq(binary_find(long_one, BINARY_HEAD_MAX, &frame, &taken), BINARY_MORE);
    ck_assert_int_eq(binary_find(long_one, BINARY_HEAD_MAX + 1, &frame, &taken), BINARY_BAD);
}
END_TEST

START_TEST(a_frame_has_the_shape_that_its_opcode_asks_for) {
    bool closes;
    ck_assert_int_eq(status_of(frame_of(BINARY_get, 0, 1, 0), &closes), BINARY_OK);
    ck_assert_int_eq(status_of(frame_of(BINARY_get, 0, 250, 0), &closes), BINARY_OK);
    ck_assert_int_eq(status_of(frame_of(BINARY_get, 0, 251, 0), &closes), BINARY_INVALID);
    ck_assert(closes);
    ck_assert_int_eq(status_of(frame_of(BINARY_get, 0, 0, 0), &closes), BINARY_INVALID);
    ck_assert_int_eq(status_of(frame_of(BINARY_get, 4, 1, 0), &closes), BINARY_INVALID);
    ck_assert_int_eq(status_of(frame_of(BINARY_get, 0, 1, 1), &closes), BINARY_INVALID);
    ck_assert_int_eq(status_of(frame_of(BINARY_set, 8, 1, 0), &closes), BINARY_OK);
    ck_assert_int_eq(status_of(frame_of(BINARY_set, 4, 1, 5), &closes), BINARY_INVALID);
    ck_assert_int_eq(status_of(frame_of(BINARY_flush, 4, 0, 0), &closes), BINARY_OK);
    ck_assert_int_eq(status_of(frame_of(BINARY_flush, 0, 0, 0), &closes), BINARY_OK);
    ck_assert_int_eq(status_of(frame_of(BINARY_flush, 3, 0, 0), &closes), BINARY_INVALID);
    ck_assert_int_eq(status_of(frame_of(BINARY_stat, 0, 0, 0), &closes), BINARY_OK);
    ck_assert_int_eq(status_of(frame_of(BINARY_noop, 0, 1, 0), &closes), BINARY_INVALID);
}
END_TEST

START_TEST(an_unknown_opcode_goes_on_and_lengths_that_do_not_add_up_close) {
    bool closes;
    ck_assert_int_eq(status_of(frame_of(0x77, 0, 3, 9), &closes), BINARY_UNKNOWN);
    ck_assert(!closes);
    struct bytes bytes = frame_of(BINARY_get, 0, 9, 0);
    bytes.at[11] = 8;
    ck_assert_int_eq(status_of(bytes, &closes), BINARY_UNKNOWN);
    ck_assert(closes);
    bytes = frame_of(0x77, 0, 3, 9);
    bytes.at[8] = 0x40; /* 1 GiB and 12 bytes: nobody waits for them to pass */
    ck_assert_int_eq(status_of(bytes, &closes), BINARY_INVALID);
    ck_assert(closes);
}
END_TEST

START_TEST(an_error_repeats_opcode_and_opaque_and_says_its_sentence) {
    char text[256];
    struct reply reply = {.text = text, .size = sizeof(text)};
    struct bytes bytes = frame_of(BINARY_getkq, 0, 1, 0);
    struct binary frame;
    size_t taken;
    ck_assert_int_eq(binary_find(bytes.at, bytes.length, &frame, &taken), BINARY_FRAME);
    ck_assert(frame.origin.quiet);
    binary_reply_error(&reply, &frame.origin, BINARY_NOT_FOUND, EBB_SPAN(""));
    ck_assert_uint_eq(reply.used, BINARY_HEADER + 9);
    ck_assert_mem_eq(text, "\x81\x0d\0\0\0\0\0\x01\0\0\0\x09opaq\0\0\0\0\0\0\0\0Not found",
                     reply.used);
}
END_TEST

HARNESS_MAIN("binary", a_frame_is_there_with_its_key_whether_its_value_is_or_not,
             another_magic_is_no_frame,
             a_key_longer_than_the_read_buffer_is_waited_for_no_longer_than_that,
             a_frame_has_the_shape_that_its_opcode_asks_for,
             an_unknown_opcode_goes_on_and_lengths_that_do_not_add_up_close,
             an_error_repeats_opcode_and_opaque_and_says_its_sentence)
