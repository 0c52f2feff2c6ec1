/* objects -- a cache as one would write it first with a collector: each item is an object.
 * ebb-objects MIB SECONDS CSV.
 *
 * For comparison with ebbd's pauses: the same collector, the same profile, the same item size, as
 * much live memory, and old items replaced by new ones all the time; but nothing is kept in
 * segments. */
#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/mem.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ITEM_BYTES = 100, CELL_BYTES = 128, CHUNK = 1 << 16, TURN = 1000 };

EBB_TYPE_DEFINE(item, EBB_BYTES, EBB_SHARED, "an item of the naive cache")
EBB_TYPE_DEFINE(table, EBB_POINTERS, EBB_SHARED, "pointers to items")

static void ***table; /* chunks of pointers */

static void put(size_t at) {
    char *item = ebb_new_sized(&ebb_type_item, ITEM_BYTES);
    memset(item, (int)at, ITEM_BYTES);
    table[at / CHUNK][at % CHUNK] = item;
}

static void take_rows(struct ebb_writer *writer) {
    struct ebb_heap_record record;
    uint64_t lost = 0;
    while (ebb_heap_record_take(&record, &lost))
        ebb_heap_record_write(writer, &record);
}

static void fill(size_t items) {
    table = ebb_new_sized(&ebb_type_table, (items / CHUNK + 1) * sizeof *table);
    for (size_t i = 0; i <= items / CHUNK; i++)
        table[i] = ebb_new_sized(&ebb_type_table, CHUNK * sizeof **table);
    for (size_t i = 0; i < items; i++)
        put(i);
}

int main(int argc, char **argv) {
    static struct ebb_type *const types[] = {&ebb_type_item, &ebb_type_table};
    static struct ebb_profile profile;
    if (argc != 4 || ebb_profile_read(&profile, "deploy") != EBB_OK) {
        fprintf(stderr, "usage: ebb-objects MIB SECONDS CSV %s\n", ebb_err_text());
        return EXIT_FAILURE;
    }
    ebb_collector_start(&profile);
    ebb_types_add(types, 2);
    size_t bytes = strtoull(argv[1], NULL, 10) << 20, items = bytes / (CELL_BYTES + sizeof(void *));
    ebb_budget_set(bytes);
    fill(items);
    struct ebb_fd_writer file;
    ebb_fd_writer_init(&file, open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    struct ebb_array_writer nowhere;
    ebb_array_writer_init(&nowhere, NULL, 0);
    take_rows(&nowhere.writer);
    ebb_heap_record_write_header(&file.writer);
    uint64_t end = ebb_clock_ns() + strtoull(argv[2], NULL, 10) * EBB_NS_PER_SECOND, random = 1;
    while (ebb_clock_ns() < end) {
        for (int i = 0; i < TURN; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            put((size_t)(random >> 20) % items);
        }
        ebb_dropped(TURN * CELL_BYTES);
        take_rows(&file.writer);
    }
    printf("%zu\n", items);
    return file.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
