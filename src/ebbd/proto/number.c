/* number -- strtoul's habits without strtoul's NUL.
 *
 * scan() finds sign and magnitude; the readers differ only in what they accept of it.
 * 1. A number ends at the end of the text or before white space; what follows is not looked at.
 * 2. A minus sign negates modulo 2^64, as strtoul does; a result of 2^63 or more with a '-'
 * anywhere is refused. */
#include "number.h"

#include <stdlib.h>

struct scanned {
    bool negative;
    uint64_t magnitude;
};

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool scan(struct ebb_span text, struct scanned *out) {
    const char *at = text.at, *end = text.at + text.length;
    while (at < end && is_space(*at))
        at++;
    out->negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+'))
        at++;
    const char *digits = at;
    uint64_t magnitude = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (__builtin_mul_overflow(magnitude, 10, &magnitude) ||
            __builtin_add_overflow(magnitude, digit, &magnitude))
            return false;
    }
    out->magnitude = magnitude;
    return at > digits && (at == end || is_space(*at) || *at == '\0');
}

bool number_u64(struct ebb_span text, uint64_t *out) {
    struct scanned number;
    if (!scan(text, &number))
        return false;
    uint64_t value = number.negative ? 0 - number.magnitude : number.magnitude;
    if (value >> 63) {
        const char *nul = memchr(text.at, '\0', text.length);
        size_t seen = nul ? (size_t)(nul - text.at) : text.length;
        if (memchr(text.at, '-', seen))
            return false;
    }
    *out = value;
    return true;
}

bool number_u32(struct ebb_span text, uint32_t *out) {
    uint64_t value;
    if (!number_u64(text, &value))
        return false;
    *out = (uint32_t)value;
    return true;
}

bool number_i32(struct ebb_span text, int32_t *out) {
    struct scanned number;
    if (!scan(text, &number))
        return false;
    if (number.magnitude > (uint64_t)INT64_MAX + (number.negative ? 1 : 0))
        return false;
    *out = (int32_t)(uint32_t)(number.negative ? 0 - number.magnitude : number.magnitude);
    return true;
}

static bool is_exact(struct ebb_span text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
    return true;
}

bool number_exact_u64(struct ebb_span text, uint64_t *out) {
    return is_exact(text) && number_u64(text, out);
}

bool number_exact_u32(struct ebb_span text, uint32_t *out) {
    uint64_t value;
    if (!number_exact_u64(text, &value) || value > UINT32_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}

bool number_exact_i32(struct ebb_span text, int32_t *out) {
    bool negative = text.length > 0 && text.at[0] == '-';
    uint64_t magnitude, most = (uint64_t)INT32_MAX + negative;
    struct ebb_span digits = {text.at + negative, text.length - negative};
    if (!number_exact_u64(digits, &magnitude) || magnitude > most)
        return false;
    *out = (int32_t)(uint32_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

bool number_length(struct ebb_span text, size_t *out) {
    struct scanned number;
    if (!scan(text, &number) || number.magnitude > NUMBER_LENGTH_MAX ||
        (number.negative && number.magnitude > 0))
        return false;
    *out = (size_t)number.magnitude;
    return true;
}

bool number_real(struct ebb_span text, double *out) {
    char copy[64], *end;
    if (text.length == 0 || text.length >= sizeof(copy))
        return false;
    memcpy(copy, text.at, text.length);
    copy[text.length] = '\0';
    *out = strtod(copy, &end);
    return end > copy && (*end == '\0' || is_space(*end));
}

size_t number_write(char *at, uint64_t value) {
    char digits[NUMBER_DIGITS_MAX];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    for (size_t i = 0; i < count; i++)
        at[i] = digits[count - 1 - i];
    return count;
}
