/* number: what strtol and strtoul take, and what memcached makes of it. */
#include "harness.h"

#include <ebbd/proto/number.h>

static bool u64(const char *text, uint64_t *out) {
    return number_u64(ebb_span_of(text), out);
}

START_TEST(digits_are_a_number_and_letters_are_not) {
    uint64_t value;
    ck_assert(u64("0", &value) && value == 0);
    ck_assert(u64("007", &value) && value == 7);
    ck_assert(u64("18446744073709551615", &value) && value == UINT64_MAX);
    ck_assert(!u64("18446744073709551616", &value));
    ck_assert(!u64("", &value));
    ck_assert(!u64("x", &value));
    ck_assert(!u64("1x", &value));
    ck_assert(!u64("0x1", &value));
    ck_assert(!u64("+", &value));
}
END_TEST

START_TEST(white_space_may_stand_before_and_ends_a_number) {
    uint64_t value;
    ck_assert(u64(" \t9", &value) && value == 9);
    ck_assert(u64("9 x", &value) && value == 9);
    ck_assert(number_u64((struct ebb_span){"9\0x", 3}, &value) && value == 9);
}
END_TEST

START_TEST(a_minus_negates_as_in_strtoul) {
    uint64_t value;
    ck_assert(!u64("-1", &value));
    ck_assert(u64("-0", &value) && value == 0);
    ck_assert(u64("-18446744073709551615", &value) && value == 1);
    ck_assert(!u64("9223372036854775808 -", &value));
    ck_assert(u64("9223372036854775807 -", &value));
}
END_TEST

START_TEST(what_is_wider_than_32_bits_is_cut) {
    uint32_t u;
    int32_t i;
    ck_assert(number_u32(ebb_span_of("4294967297"), &u) && u == 1);
    ck_assert(number_i32(ebb_span_of("4294967297"), &i) && i == 1);
    ck_assert(number_i32(ebb_span_of("-1"), &i) && i == -1);
    ck_assert(number_i32(ebb_span_of("-2147483648"), &i) && i == INT32_MIN);
    ck_assert(number_i32(ebb_span_of("-9223372036854775808"), &i) && i == 0);
    ck_assert(!number_i32(ebb_span_of("9223372036854775808"), &i));
    ck_assert(!number_i32(ebb_span_of("-9223372036854775809"), &i));
}
END_TEST

START_TEST(an_exact_number_is_digits_alone) {
    uint64_t wide;
    uint32_t narrow;
    int32_t whole;
    ck_assert(number_exact_u64(ebb_span_of("18446744073709551615"), &wide) && wide == UINT64_MAX);
    ck_assert(number_exact_u32(ebb_span_of("4294967295"), &narrow) && narrow == UINT32_MAX);
    ck_assert(number_exact_i32(ebb_span_of("-2147483648"), &whole) && whole == INT32_MIN);
    ck_assert(number_exact_i32(ebb_span_of("2147483647"), &whole) && whole == INT32_MAX);
    ck_assert(!number_exact_u32(ebb_span_of("4294967296"), &narrow));
    ck_assert(!number_exact_i32(ebb_span_of("2147483648"), &whole));
    ck_assert(!number_exact_i32(ebb_span_of("-2147483649"), &whole));
    static const char *const none[] = {
        "", "-", "+1", " 1", "1 ", "\t1", "--1", "1x", "18446744073709551616"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        struct ebb_span text = ebb_span_of(none[i]);
        ck_assert_msg(!number_exact_u64(text, &wide) && !number_exact_i32(text, &whole), "%s",
                      none[i]);
    }
    ck_assert(!number_exact_u64(ebb_span_of("-1"), &wide));
    ck_assert(!number_exact_u64((struct ebb_span){"9\0x", 3}, &wide));
}
END_TEST

START_TEST(a_length_is_never_cut) {
    size_t length;
    ck_assert(number_length(ebb_span_of("0"), &length) && length == 0);
    ck_assert(number_length(ebb_span_of("+3"), &length) && length == 3);
    ck_assert(number_length(ebb_span_of("2147483645"), &length) && length == NUMBER_LENGTH_MAX);
    static const char *const none[] = {
        "2147483646", "4294967297", "-1", "-18446744073709551615", "18446744073709551617", "", "x"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        ck_assert_msg(!number_length(ebb_span_of(none[i]), &length), "%s", none[i]);
}
END_TEST

START_TEST(written_digits_read_back) {
    static const uint64_t values[] = {0, 9, 10, 99, 12345678901234567ull, UINT64_MAX};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[NUMBER_DIGITS_MAX];
        uint64_t value;
        size_t length = number_write(text, values[i]);
        ck_assert(number_u64((struct ebb_span){text, length}, &value));
        ck_assert_uint_eq(value, values[i]);
    }
}
END_TEST

HARNESS_MAIN("number", digits_are_a_number_and_letters_are_not,
             white_space_may_stand_before_and_ends_a_number, a_minus_negates_as_in_strtoul,
             what_is_wider_than_32_bits_is_cut, an_exact_number_is_digits_alone,
             a_length_is_never_cut, written_digits_read_back)
