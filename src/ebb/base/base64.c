/* base64 -- RFC 4648 with padding; reading is as lenient as memcached's. */
#include <ebb/base64.h>

#include <stdint.h>

enum { OTHER = 0x80, GROUP = 4 };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The six bits that a character stands for; '=' stands for none, all others are OTHER. */
static uint32_t bits_of(char c) {
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    if (c == '+' || c == '/')
        return c == '+' ? 62 : 63;
    return c == '=' ? 0 : OTHER;
}

static size_t characters(struct ebb_span text) {
    size_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        count += bits_of(text.at[i]) != OTHER;
    return count;
}

size_t ebb_base64_decode(struct ebb_span text, char *out) {
    char *at = out;
    uint32_t group = 0;
    size_t count = 0, padding = 0, all = characters(text);
    if (all == 0 || all % GROUP != 0)
        return 0;
    for (size_t i = 0; i < text.length && padding == 0;) {
        for (count = 0; count < GROUP; i++) {
            uint32_t bits = bits_of(text.at[i]);
            if (bits == OTHER)
                continue;
            padding += text.at[i] == '=';
            group = group << 6 | bits;
            count++;
        }
        *at++ = (char)(group >> 16);
        if (padding < 2)
            *at++ = (char)(group >> 8);
        if (padding < 1)
            *at++ = (char)group;
        while (i < text.length && bits_of(text.at[i]) == OTHER)
            i++;
    }
    return padding > 2 ? 0 : (size_t)(at - out);
}

char *ebb_base64_write(char *at, struct ebb_span bytes) {
    const unsigned char *from = (const unsigned char *)bytes.at;
    size_t left = bytes.length;
    for (; left > 0; left = left > 3 ? left - 3 : 0, from += 3) {
        uint32_t group =
            (uint32_t)from[0] << 16 | (left > 1 ? from[1] << 8 : 0) | (left > 2 ? from[2] : 0);
        *at++ = alphabet[group >> 18];
        *at++ = alphabet[group >> 12 & 63];
        *at++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
        *at++ = left > 2 ? alphabet[group & 63] : '=';
    }
    return at;
}
