/* utf8 -- one character at a time. Paths and peers may say any byte; who reads JSON or metrics
 * refuses all of it for one that is not UTF-8. */
#include "utf8.h"

#include <stdbool.h>

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
    unsigned second = at[1];
    bool too_long = (at[0] == 0xe0 && second < 0xa0) || (at[0] == 0xf0 && second < 0x90);
    bool no_character = (at[0] == 0xed && second > 0x9f) || (at[0] == 0xf4 && second > 0x8f);
    return too_long || no_character ? 0 : size;
}
