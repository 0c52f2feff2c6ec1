/* seeds -- writes the example of each row of commands.def to a file of its own: DIRECTORY/NAME. */
#include <stdio.h>

static const struct {
    const char *name, *example;
} rows[] = {
#define EBB_COMMAND(id, name, form, class, min, usage, counts, example, help) {name, example},
#include "tbl/commands.def"
};

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 2 && i < sizeof(rows) / sizeof(rows[0]); i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", argv[1], rows[i].name);
        FILE *file = fopen(path, "w");
        if (file == NULL || fprintf(file, "%s\r\n", rows[i].example) < 0 || fclose(file) != 0)
            return 1;
    }
    return argc == 2 ? 0 : 2;
}
