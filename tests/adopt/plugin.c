/* plugin -- a library whose variables keep blocks, for program.c to load and to unload. */
#include <stdlib.h>

void plugin_keep(void);

static void *volatile kept[500];

__attribute__((noinline)) static void *lose_with_plugin(void) {
    return malloc(60);
}

void plugin_keep(void) {
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        kept[i] = lose_with_plugin();
}
