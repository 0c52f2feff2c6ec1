/* plugin -- libebb in a library that a program opens at run time, which itself knows nothing of it.
 * With -DHOST it is that program: plugin FILE. */
#include <stdio.h>

#ifdef HOST
#include <dlfcn.h>
int main(int argc, char **argv) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    int (*run)(void) = NULL;
    if (library)
        *(void **)&run = dlsym(library, "plugin_run");
    if (run == NULL) {
        fprintf(stderr, "plugin: %s\n", dlerror());
        return 1;
    }
    return run();
}
#else
#include <ebb/ebb.h>
#include <ebb/leak.h>

enum { COUNT = 1000, STEP = 50, LOST = COUNT / STEP, HELD = 2 };

/* The library has a type of that name, too. */
EBB_TYPE_DEFINE(watch, EBB_POINTERS, EBB_OWNED, "an object of the plugin's")
struct watch {
    struct watch *next;
};

static struct watch *volatile kept[COUNT];
int plugin_run(void);

static __attribute__((noinline)) void make(void) {
    for (int i = 0; i < COUNT; i++) {
        struct watch *object = ebb_new(watch);
        kept[i] = i % STEP == 1 ? NULL : object;
    }
}

int plugin_run(void) {
    static struct ebb_type *const types[] = {&ebb_type_watch};
    struct ebb_profile profile;
    if (ebb_profile_read(&profile, "deploy") != EBB_OK)
        return 1;
    ebb_collector_start(&profile);
    ebb_types_add(types, 1);
    make();
    ebb_stack_clear();
    ebb_collect(EBB_CAUSE_demand);
    printf("plugin: %d of %d lost ones counted\n", (int)ebb_type_watch.leaked, LOST);
    return ebb_type_watch.leaked > LOST || ebb_type_watch.leaked < LOST - HELD;
}
#endif
