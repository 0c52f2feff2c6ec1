/* request -- from a line to a struct.
 *
 * memcached cuts the line at blanks (only ' ' is one), counts the words, looks the first one up,
 * and reads the others as numbers with the C library. Clients see every step of that in the errors
 * they get, so the steps here are the same and in the same order: count of words, noreply, length
 * of the key, numbers.
 *
 * 1. Once the length of a storage command's block is known the block is passed over, whatever else
 * is wrong: it is never read as commands. So a NUL does not end a line, and surplus words do no
 * harm. memcached 1.6.18 is of another mind in all of that, later versions are not.
 * 2. noreply is the last word of a line, whatever stands before it; it silences errors of the same
 * line as well.
 * 3. A get is checked as a whole before anything of it runs: a key that is too long makes the whole
 * line an error, and memcached takes back what it had already prepared. Here nothing was.
 * 4. A get that is too long for one reply buffer becomes a shorter get (request_shorten), so there
 * is no half-done state to keep. */
#include "request.h"

#include "number.h"

#define WORDS_COUNTED 23    /* memcached looks at no more */
#define BLANKS_MAX    100   /* before "get" in a line that is longer than REQUEST_LINE_MAX */
#define LINE_LONGEST  16384 /* of any other command, when it came in one piece */
#define LENGTH_AT     4     /* the word of a storage command */

struct verb_row {
    const char *name;
    size_t length;
    enum request_form form;
    unsigned words_min;
};

static const struct verb_row verbs[REQUEST_VERBS] = {
#define EBB_COMMAND(id, name, form, class, min, ...)                                               \
    [REQUEST_##id] = {name, sizeof(name) - 1, REQUEST_FORM_##form, min},
#include "tbl/commands.def"
};

static const struct ebb_span error_unknown = EBB_SPAN("ERROR");
static const struct ebb_span error_format = EBB_SPAN("CLIENT_ERROR bad command line format");
static const struct ebb_span error_delete =
    EBB_SPAN("CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]");
static const struct ebb_span error_exptime = EBB_SPAN("CLIENT_ERROR invalid exptime argument");
static const struct ebb_span error_delta = EBB_SPAN("CLIENT_ERROR invalid numeric delta argument");
static const struct ebb_span noreply = EBB_SPAN("noreply");

const char *request_verb_name(enum request_verb verb) {
    return verb == REQUEST_NONE ? "none" : verbs[verb].name;
}

bool request_next_key(struct ebb_span *keys, struct ebb_span *key) {
    const char *at = keys->at, *end = keys->at + keys->length;
    while (at < end && *at == ' ')
        at++;
    key->at = at;
    while (at < end && *at != ' ')
        at++;
    key->length = (size_t)(at - key->at);
    *keys = (struct ebb_span){at, (size_t)(end - at)};
    return key->length > 0;
}

bool request_is_word(struct ebb_span key) {
    for (size_t i = 0; i < key.length; i++)
        if (key.at[i] == ' ' || key.at[i] == '\r' || key.at[i] == '\n')
            return false;
    return true;
}

static enum request_verb verb_of(struct ebb_span word) {
    for (int verb = REQUEST_NONE + 1; verb < REQUEST_VERBS; verb++)
        if (verbs[verb].length == word.length &&
            memcmp(verbs[verb].name, word.at, word.length) == 0)
            return (enum request_verb)verb;
    return REQUEST_NONE;
}

static void split(struct ebb_span line, struct request *request) {
    struct ebb_span word, last = {"", 0};
    request->words = 0;
    while (request->words < WORDS_COUNTED && request_next_key(&line, &word)) {
        if (request->words < REQUEST_WORDS)
            request->word[request->words] = word;
        request->words++;
        last = word;
    }
    request->noreply = request->words > 1 && ebb_span_equal(last, noreply);
    request->hang_up = last.length >= 5 && memcmp(last.at, "HTTP/", 5) == 0;
}

static struct ebb_span check_keys(struct ebb_span keys) {
    struct ebb_span key;
    while (request_next_key(&keys, &key))
        if (key.length > REQUEST_KEY_MAX)
            return error_format;
    return (struct ebb_span){"", 0};
}

static bool read_exptime(struct ebb_span text, struct request *request) {
    int32_t exptime;
    if (!number_i32(text, &exptime))
        return false;
    request->exptime = exptime;
    return true;
}

/* As touch and gat read it: a time that was cut would end the item at once, or never. */
static bool read_exact_exptime(struct ebb_span text, struct request *request) {
    int32_t exptime;
    if (!number_exact_i32(text, &exptime))
        return false;
    request->exptime = exptime;
    return true;
}

static struct ebb_span read_keys(const struct verb_row *row, struct request *request) {
    struct ebb_span rest = request->keys, first;
    if (!request_next_key(&rest, &first))
        return error_format;
    if (row->form == REQUEST_FORM_TOUCH_KEYS) {
        struct ebb_span keys = rest, key;
        if (!request_next_key(&keys, &key))
            return error_format;
        if (!read_exact_exptime(first, request))
            return error_exptime;
        request->keys = rest;
    }
    return check_keys(request->keys);
}

static bool stores(const struct verb_row *row) {
    return row->form == REQUEST_FORM_STORE || row->form == REQUEST_FORM_STORE_CAS;
}

static struct ebb_span read_store(const struct verb_row *row, struct request *request) {
    request->number = 0;
    bool good = request->has_block && request->key.length <= REQUEST_KEY_MAX &&
                number_u32(request->word[2], &request->client_flags) &&
                read_exptime(request->word[3], request);
    if (good && row->form == REQUEST_FORM_STORE_CAS)
        good = number_exact_u64(request->word[LENGTH_AT + 1], &request->number);
    return good ? EBB_SPAN("") : error_format;
}

/* A time, which was once, may be 0: somebody who gives another means what is no more. */
static struct ebb_span read_delete(struct request *request) {
    if (request->words == 2)
        request->noreply = false; /* "delete noreply" is about the key "noreply" */
    unsigned surplus = request->words - 2 - request->noreply;
    if (surplus > 1 || (surplus == 1 && !ebb_span_equal(request->word[2], EBB_SPAN("0"))))
        return error_delete;
    return request->key.length > REQUEST_KEY_MAX ? error_format : EBB_SPAN("");
}

static struct ebb_span read_megabytes(struct request *request) {
    uint32_t megabytes;
    if (!number_u32(request->word[1], &megabytes))
        return error_unknown;
    request->number = megabytes;
    return EBB_SPAN("");
}

static struct ebb_span read_words(const struct verb_row *row, struct request *request) {
    request->key = request->word[1];
    switch (row->form) {
    case REQUEST_FORM_STORE:
    case REQUEST_FORM_STORE_CAS:
        return read_store(row, request);
    case REQUEST_FORM_DELTA:
    case REQUEST_FORM_TOUCH:
        if (request->key.length > REQUEST_KEY_MAX)
            return error_format;
        if (row->form == REQUEST_FORM_DELTA)
            return number_exact_u64(request->word[2], &request->number) ? EBB_SPAN("")
                                                                        : error_delta;
        return read_exact_exptime(request->word[2], request) ? EBB_SPAN("") : error_exptime;
    case REQUEST_FORM_DELETE:
        return read_delete(request);
    case REQUEST_FORM_FLUSH:
        request->exptime = 0;
        if (request->words == (request->noreply ? 2u : 1u))
            return EBB_SPAN("");
        return read_exact_exptime(request->word[1], request) ? EBB_SPAN("") : error_exptime;
    case REQUEST_FORM_LEVEL:
        return number_u64(request->word[1], &request->number) ? EBB_SPAN("") : error_format;
    case REQUEST_FORM_MEGABYTES:
        return read_megabytes(request);
    case REQUEST_FORM_LRU:
        return EBB_SPAN("");
    default: /* WORDS */
        request->noreply = false;
        return EBB_SPAN("");
    }
}

/* A command with a key, or a level, lacks a word; or it is one letter or none. */
static bool is_short(struct ebb_span line, const struct verb_row *row) {
    return line.length < 2 || (row->form <= REQUEST_FORM_LEVEL && row->words_min > 1);
}

/* memcached knows HTTP by the last word, and asks only where its search by first letters ended. */
static bool may_be_http(struct ebb_span name) {
    bool meta = name.length == 2 && name.at[0] == 'm';
    return name.length >= 2 && !meta && memchr("gsacidt", name.at[0], 7) == NULL;
}

void request_parse(struct ebb_span line, struct request *request) {
    struct ebb_span rest = line, name;
    request_next_key(&rest, &name);
    request->verb = verb_of(name);
    request->noreply = request->hang_up = request->has_block = false;
    request->error = EBB_SPAN("");
    const struct verb_row *row = &verbs[request->verb];
    request->keys = rest;
    if (request->verb != REQUEST_NONE && row->form <= REQUEST_FORM_META) {
        if (row->form != REQUEST_FORM_META)
            request->error = read_keys(row, request);
        return;
    }
    split(line, request);
    request->has_block = request->verb != REQUEST_NONE && stores(row) &&
                         request->words > LENGTH_AT &&
                         number_length(request->word[LENGTH_AT], &request->value_length);
    if (request->has_block && request->words < row->words_min) {
        request->error = error_format;
        return;
    }
    if (request->verb == REQUEST_NONE || request->words < row->words_min) {
        request->hang_up = request->hang_up && request->verb == REQUEST_NONE && may_be_http(name);
        request->noreply = false;
        request->error = is_short(line, row) ? error_format : error_unknown;
        return;
    }
    request->hang_up = false;
    request->error = read_words(row, request);
}

size_t request_shorten(char *line, const struct request *request, struct ebb_span rest) {
    /* "get a b c" with c left becomes, three bytes further on, "get c"; of gat the number before
     * the keys moves along. */
    size_t head = (size_t)(request->keys.at - line), left = (size_t)(rest.at - line);
    memmove(line + left - head, line, head);
    return left - head;
}

static bool is_long_get(const char *at, size_t length) {
    size_t blanks = 0;
    while (blanks < length && at[blanks] == ' ')
        blanks++;
    if (blanks > BLANKS_MAX)
        return false;
    at += blanks;
    length -= blanks;
    return (length >= 4 && memcmp(at, "get ", 4) == 0) ||
           (length >= 5 && memcmp(at, "gets ", 5) == 0);
}

enum request_found request_find_line(const char *at, size_t length, struct ebb_span *line,
                                     size_t *taken) {
    const char *end = memchr(at, '\n', length);
    if (end == NULL) {
        if (length <= REQUEST_LINE_MAX)
            return REQUEST_MORE;
        return length < REQUEST_KEYS_MAX && is_long_get(at, length) ? REQUEST_MORE : REQUEST_LONG;
    }
    *taken = (size_t)(end - at) + 1;
    if (*taken > LINE_LONGEST && !is_long_get(at, length))
        return REQUEST_LONG;
    /* Of "\r\n" alone memcached keeps the '\r'; both are an unknown command. */
    if (end - at > 1 && end[-1] == '\r')
        end--;
    *line = (struct ebb_span){at, (size_t)(end - at)};
    return REQUEST_LINE;
}
