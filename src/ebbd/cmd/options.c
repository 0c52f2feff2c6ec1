/* options -- a service file for memcached must start ebbd.
 *
 * So every flag and every -o option of memcached is known here: most do the same, some are taken
 * and then ignored, because what they tune does not exist, and a few are refused, because who asks
 * for them would not get what they rely on (authentication, encryption, storage).
 *
 * 1. What is ignored says so once in the log; what is refused ends the start with one line.
 * 2. A value's form is checked, its bounds are not: what is ignored cannot be out of bounds. The
 * ignored flags that take a value take a number. */
#include "options.h"
#include "events.h"

#include <stdlib.h>
#include <string.h>

enum fate { FATE_SAME, FATE_CHANGED, FATE_IGNORED, FATE_REFUSED };
enum value { VALUE_NONE, VALUE_NUMBER, VALUE_TEXT, VALUE_MAYBE };

static const char *const fates[] = {"as memcached", "differs", "accepted, no effect", "refused"};

enum option_id {
#define EBB_OPTION(id, ...) OPTION_##id,
#include "tbl/options.def"
    OPTIONS
};

struct option_row {
    const char *name;
    enum value value;
    enum fate fate;
    const char *why;
};

static const struct option_row options[OPTIONS] = {
#define EBB_OPTION(id, name, value, fate, why) {name, VALUE_##value, FATE_##fate, why},
#include "tbl/options.def"
};

struct flag_note {
    const char *member;
    int letter;
    enum fate fate;
    const char *why;
    size_t offset;
    bool is_flag; /* a bool; else, where it is asked for, a TEXT */
};

static const struct flag_note notes[] = {
#define EBB_FLAG_NOTE(member, letter, fate, why)                                                   \
    {#member,                                                                                      \
     letter,                                                                                       \
     FATE_##fate,                                                                                  \
     why,                                                                                          \
     offsetof(struct settings, member),                                                            \
     _Generic(((struct settings *)NULL)->member, bool                                              \
              : true, default                                                                      \
              : false)},
#include "tbl/options.def"
};
static const size_t notes_count = sizeof(notes) / sizeof(notes[0]);

/* --- reading --- */

/* One "name" or "name=value" of a list with commas. */
struct word {
    const char *name;
    size_t name_length;
    const char *value; /* NULL: none */
    size_t value_length;
};

static bool next_word(const char **list, struct word *word) {
    if (**list == '\0')
        return false;
    size_t length = strcspn(*list, ",");
    const char *equals = memchr(*list, '=', length);
    word->name = *list;
    word->name_length = equals ? (size_t)(equals - *list) : length;
    word->value = equals ? equals + 1 : NULL;
    word->value_length = equals ? length - word->name_length - 1 : 0;
    *list += length + ((*list)[length] == ',');
    return true;
}

static enum ebb_err find_option(const struct word *word, enum option_id *id) {
    for (int i = 0; i < OPTIONS; i++)
        if (strlen(options[i].name) == word->name_length &&
            memcmp(options[i].name, word->name, word->name_length) == 0) {
            *id = (enum option_id)i;
            return EBB_OK;
        }
    return ebb_err_set(EBB_ERR_USAGE,
                       "--extended (-o): \"%.*s\" is no option; --flags-table lists them all",
                       (int)word->name_length, word->name);
}

static bool is_number(const struct word *word) {
    for (size_t i = 0; i < word->value_length; i++)
        if (word->value[i] < '0' || word->value[i] > '9')
            return false;
    return word->value_length > 0 && word->value_length < 10;
}

static enum ebb_err check_value(const struct option_row *row, const struct word *word) {
    if (row->value == VALUE_NUMBER && !(word->value && is_number(word)))
        return ebb_err_set(EBB_ERR_USAGE, "--extended (-o): %s needs a number: %s=<num>", row->name,
                           row->name);
    if (row->value == VALUE_TEXT && word->value_length == 0)
        return ebb_err_set(EBB_ERR_USAGE, "--extended (-o): %s needs a value: %s=<value>",
                           row->name, row->name);
    return EBB_OK;
}

static enum ebb_err read_word(struct settings *settings, const struct word *word) {
    enum option_id id;
    enum ebb_err error = find_option(word, &id);
    if (error)
        return error;
    if (options[id].fate == FATE_REFUSED)
        return ebb_err_set(EBB_ERR_USAGE, "--extended (-o): %s is refused: %s", options[id].name,
                           options[id].why);
    error = check_value(&options[id], word);
    if (error)
        return error;
    if (id == OPTION_maxconns_fast)
        settings->waits_at_limit = false;
    else if (id == OPTION_no_maxconns_fast || id == OPTION_no_modern)
        settings->waits_at_limit = true;
    else if (id == OPTION_idle_timeout)
        settings->idle_seconds_max = strtoull(word->value, NULL, 10);
    return EBB_OK;
}

static bool is_given(const struct settings *settings, const struct flag_note *note) {
    const char *member = (const char *)settings + note->offset;
    /* The rows of ignored and refused flags are a FLAG (bool) or a TEXT (pointer). */
    return note->is_flag ? *(const bool *)member : *(const char *const *)member != NULL;
}

/* What refused and ignored flags have in common with those that work: the form of a value. */
static enum ebb_err check_note(const struct settings *settings, const struct flag_note *note) {
    if (note->fate < FATE_IGNORED || !is_given(settings, note))
        return EBB_OK;
    if (note->fate == FATE_REFUSED)
        return ebb_err_set(EBB_ERR_USAGE, "-%c is refused: %s", note->letter, note->why);
    if (note->is_flag)
        return EBB_OK;
    const char *text = *(const char *const *)((const char *)settings + note->offset);
    char *end;
    double number = strtod(text, &end);
    return end != text && *end == '\0' && number > 0
               ? EBB_OK
               : ebb_err_set(EBB_ERR_USAGE, "-%c: \"%s\" is not a number above 0", note->letter,
                             text);
}

enum ebb_err options_read(struct settings *settings) {
    enum ebb_err error = EBB_OK;
    for (size_t i = 0; error == EBB_OK && i < notes_count; i++)
        error = check_note(settings, &notes[i]);
    for (size_t i = 0; error == EBB_OK && i < settings->extended.count; i++) {
        const char *list = settings->extended.value[i];
        struct word word;
        while (error == EBB_OK && next_word(&list, &word))
            error = read_word(settings, &word);
    }
    return error;
}

/* --- telling --- */

#define NO_NETWORK "with a unix socket (-s) there is no network"

void options_tell(const struct settings *settings) {
    for (size_t i = 0; i < notes_count; i++)
        if (notes[i].fate == FATE_IGNORED && is_given(settings, &notes[i]))
            ebb_log_event(flag_without_effect, notes[i].letter, notes[i].why);
    if (settings->unix_socket && settings->listen.count > 0)
        ebb_log_event(flag_without_effect, 'l', NO_NETWORK);
    if (settings->unix_socket && settings->udp_port > 0)
        ebb_log_event(flag_without_effect, 'U', NO_NETWORK);
    if (settings->threads < settings->threads_asked)
        ebb_log_event(fewer_threads, settings->threads, settings->threads_asked);
    for (size_t i = 0; i < settings->extended.count; i++) {
        const char *list = settings->extended.value[i];
        struct word word;
        enum option_id id;
        while (next_word(&list, &word))
            if (find_option(&word, &id) == EBB_OK && options[id].fate == FATE_IGNORED)
                ebb_log_event(option_without_effect, options[id].name, options[id].why);
    }
}

static const struct flag_note *note_of(const struct ebb_setting *flag) {
    for (size_t i = 0; i < notes_count; i++)
        if (strcmp(notes[i].member, flag->member) == 0)
            return &notes[i];
    return NULL;
}

static void write_flag(const struct ebb_setting *flag, struct ebb_writer *writer) {
    const struct flag_note *note = note_of(flag);
    const char *fate = note               ? fates[note->fate]
                       : flag->short_name ? fates[FATE_SAME]
                                          : "ebbd's own";
    if (flag->short_name)
        ebb_writef(writer, "| `-%c`, `--%s`", flag->short_name, flag->long_name);
    else
        ebb_writef(writer, "| `--%s`", flag->long_name);
    ebb_writef(writer, " | %s | %s |", flag->default_text ? flag->default_text : "", fate);
    bool works = note == NULL || note->fate < FATE_IGNORED;
    ebb_writef(writer, " %s%s%s |\n", works ? flag->help : "", works && note ? ". " : "",
               note ? note->why : "");
}

void options_write_table(const struct ebb_setting *flags, size_t count, struct ebb_writer *writer) {
    ebb_write(writer,
              "# Flags\n\nEvery flag and every `-o` option of memcached 1.6.18, and ebbd's own. "
              "Written by `ebbd --flags-table`; a test\nkeeps it so.\n\n"
              "| flag | default | | |\n|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++)
        write_flag(&flags[i], writer);
    ebb_write(writer, "\n| `-o` | | |\n|---|---|---|\n");
    for (int i = 0; i < OPTIONS; i++)
        ebb_writef(writer, "| `%s` | %s | %s |\n", options[i].name, fates[options[i].fate],
                   options[i].why);
}
