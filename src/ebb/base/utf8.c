/* utf8 -- one character at a time. Paths and peers may say any byte; who reads JSON or metrics
 * refuses all of it for one that is not UTF-8. */
#include "utf8.h"

size_t ebbi_utf8_length(const char *bytes, size_t length) {
    const unsigned char *at = (const unsigned char *)bytes;
    if (length == 0 || at[0] < 0x80)
        return length > 0;
    size_t size = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (at[0] < 0xc2 || at[0] > 0xf4 || size > length)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    /* Too long a form, a surrogate, or beyond U+10FFFF: the second byte says so. */
    unsigned char low = at[0] == 0xe0   ? 0xa0
                        : at[0] == 0xf0 ? 0x90
                                        : 0x80,
                  high = at[0] == 0xed   ? 0x9f
                         : at[0] == 0xf4 ? 0x8f
                                         : 0xbf;
    return at[1] < low || at[1] > high ? 0 : size;
}
