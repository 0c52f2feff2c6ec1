/* base64 -- bytes as text (RFC 4648, with padding). */
#ifndef EBB_BASE64_H
#define EBB_BASE64_H

#include <ebb/span.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

/* Bytes of `length` bytes when encoded. */
#define EBB_BASE64_LENGTH(length) (((length) + 2) / 3 * 4)

/* Bytes outside the alphabet are passed over, as MIME and memcached do; the first padding ends it.
 * out has room for 3/4 of text. Returns how many bytes it wrote; 0: text is no base64. */
size_t ebb_base64_decode(struct ebb_span text, char *out);
/* Writes EBB_BASE64_LENGTH(bytes.length) at `at`; returns the end. */
char *ebb_base64_write(char *at, struct ebb_span bytes);

__END_DECLS

#endif
