/* number -- numbers of a request line, as memcached takes them.
 *
 * memcached leans on strtol and strtoul, so clients may lean on their habits: white space before
 * and after, a sign, and
 * "-1" as 2^64 - 1 where the result then fits. These do the same on bytes that do not end in NUL.
 * False: no such number. */
#ifndef EBBD_PROTO_NUMBER_H
#define EBBD_PROTO_NUMBER_H

#include <ebb/span.h>
#include <stdint.h>

#define NUMBER_DIGITS_MAX 20              /* of an uint64_t */
#define NUMBER_LENGTH_MAX (INT32_MAX - 2) /* with its CRLF it fits memcached's int */

bool number_u64(struct ebb_span text, uint64_t *out);
/* What fits into 64 bits but not into 32 is cut to its low 32, as memcached does. */
bool number_u32(struct ebb_span text, uint32_t *out);
bool number_i32(struct ebb_span text, int32_t *out);

/* Digits and nothing else (the last one: with a '-' before them), and nothing is cut: as memcached
 * reads tokens of flags since 1.6.45, and other words that may be wrong. */
bool number_exact_u64(struct ebb_span text, uint64_t *out);
bool number_exact_u32(struct ebb_span text, uint32_t *out);
bool number_exact_i32(struct ebb_span text, int32_t *out);
/* Bytes of a data block: 0 to NUMBER_LENGTH_MAX, and nothing is cut. */
bool number_length(struct ebb_span text, size_t *out);

/* As strtod: for settings, not for the request path. */
bool number_real(struct ebb_span text, double *out);

/* Writes the digits of value, without NUL, at `at` (room for NUMBER_DIGITS_MAX); returns how many.
 */
size_t number_write(char *at, uint64_t value);

#endif
