/* reply: text and pieces as one stream, whatever part of it was sent. */
#include "harness.h"

#include <ebbd/proto/reply.h>

static char text[REPLY_ROOM * 2], copied[REPLY_ROOM * 2];

static struct reply sample(void) {
    struct reply reply = {.text = text, .size = sizeof(text)};
    reply_bytes(&reply, "ab", 2);
    reply_piece(&reply, "CDE", 3, "CDE");
    reply_piece(&reply, "F", 1, "F");
    reply_bytes(&reply, "gh", 2);
    reply_piece(&reply, "IJ", 2, "IJ");
    reply_line(&reply, EBB_SPAN("k"));
    return reply;
}
static const char stream[] = "abCDEFghIJk\r\n";

static void is_stream(const struct reply *reply, size_t sent, const char *wanted) {
    struct iovec vectors[REPLY_VECTORS];
    char bytes[64];
    size_t used = 0;
    int count = reply_vectors(reply, sent, vectors);
    for (int i = 0; i < count; i++) {
        ck_assert_uint_gt(vectors[i].iov_len, 0);
        memcpy(bytes + used, vectors[i].iov_base, vectors[i].iov_len);
        used += vectors[i].iov_len;
    }
    bytes[used] = '\0';
    ck_assert_str_eq(bytes, wanted);
}

START_TEST(the_stream_is_right_from_every_byte_on) {
    struct reply reply = sample();
    ck_assert_uint_eq(reply_length(&reply), strlen(stream));
    for (size_t sent = 0; sent <= strlen(stream); sent++)
        is_stream(&reply, sent, stream + sent);
}
END_TEST

START_TEST(what_is_carried_over_is_the_unsent_rest) {
    for (size_t sent = 0; sent <= strlen(stream); sent++) {
        struct reply reply = sample(),
                     rest = {.text = copied, .size = reply_text_left(&reply, sent)};
        reply_carry(&rest, &reply, sent);
        ck_assert_uint_eq(rest.used, rest.size);
        ck_assert_uint_eq(reply_length(&rest), strlen(stream) - sent);
        for (size_t more = 0; more <= reply_length(&rest); more++)
            is_stream(&rest, more, stream + sent + more);
        for (unsigned i = 0; i < rest.pieces; i++)
            ck_assert_ptr_nonnull(rest.piece[i].pin);
    }
}
END_TEST

START_TEST(taking_back_leaves_what_was_before) {
    struct reply reply = sample();
    struct reply_mark mark = reply_mark(&reply);
    reply_value_head(&reply, EBB_SPAN("key"), 1, 2, NULL);
    reply_piece(&reply, "xx", 2, "xx");
    reply_take_back(&reply, mark);
    is_stream(&reply, 0, stream);
    ck_assert_ptr_null(reply.piece[3].pin); /* holds nothing any more */
}
END_TEST

START_TEST(a_value_head_has_flags_length_and_cas) {
    struct reply reply = {.text = text, .size = sizeof(text)};
    uint64_t cas = UINT64_MAX;
    reply_value_head(&reply, EBB_SPAN("k"), UINT32_MAX, 10, NULL);
    reply_value_head(&reply, EBB_SPAN("k"), 0, 0, &cas);
    is_stream(&reply, 0, "VALUE k 4294967295 10\r\nVALUE k 0 0 18446744073709551615\r\n");
}
END_TEST

START_TEST(a_reply_is_full_before_a_step_could_overflow_it) {
    struct reply reply = {.text = text, .size = sizeof(text)};
    reply.used = sizeof(text) - REPLY_ROOM;
    ck_assert(!reply_full(&reply));
    reply.used++;
    ck_assert(reply_full(&reply));
    reply_clear(&reply);
    for (int i = 0; i < REPLY_PIECES_MAX; i++) {
        ck_assert(!reply_full(&reply));
        reply_piece(&reply, "x", 1, NULL);
    }
    ck_assert(reply_full(&reply));
}
END_TEST

HARNESS_MAIN("reply", the_stream_is_right_from_every_byte_on,
             what_is_carried_over_is_the_unsent_rest, taking_back_leaves_what_was_before,
             a_value_head_has_flags_length_and_cas, a_reply_is_full_before_a_step_could_overflow_it)
