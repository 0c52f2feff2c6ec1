/* base64 -- keys of the meta commands that are no text. */
#ifndef EBBD_PROTO_BASE64_H
#define EBBD_PROTO_BASE64_H

#include <ebb/span.h>

/* Bytes of `length` bytes when encoded. */
#define BASE64_LENGTH(length) (((length) + 2) / 3 * 4)

/* As memcached decodes: bytes outside the alphabet are passed over, the first padding ends it. out
 * has room for 3/4 of text. Returns how many bytes it wrote; 0: text is no base64. */
size_t base64_decode(struct ebb_span text, char *out);
/* Writes BASE64_LENGTH(bytes.length) at `at`; returns the end. */
char *base64_write(char *at, struct ebb_span bytes);

#endif
