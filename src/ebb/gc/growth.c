/* growth -- which types have more live objects than at an earlier moment, and what holds them.
 *
 * Between the two moments somebody does the same thing N times. What should end with each of the N
 * must not have grown. Released objects (ebb_done) do not count: a word that a call left on a stack
 * may hold some. The counts of the first moment are kept in static memory; the second census,
 * and the search for holders, are made in a frozen copy of the process.
 *
 * The example of a type that grew is the newest that knows its birth; where none does, one that is
 * held in the commonest way. */
#include "gc/graph.h"
#include "gc/object.h"
#include "gc/walk.h"
#include <ebb/heap.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PATH_STEPS_MAX = 24, PATH_TEXT_MAX = 2048, WAYS = 256 };

static uint64_t before[EBB_CENSUS_TYPES + 1], after[EBB_CENSUS_TYPES + 1];
static uint32_t begun_at;
static bool begun;

static void count_by_type(void *base, size_t cell, const struct object_header *header,
                          void *context) {
    (void)base, (void)cell;
    bool released = header && (header->state == OBJECT_DONE || header->state == OBJECT_POISONED);
    if (header && !released)
        ((uint64_t *)context)[header->type]++;
}

static void count_live(uint64_t *counts) {
    memset(counts, 0, sizeof before);
    ebb_collect_fully(EBB_CAUSE_demand);
    ebbi_heap_walk(count_by_type, counts);
}

void ebb_growth_begin(void) {
    count_live(before);
    begun_at = ebbi_seconds();
    begun = true;
}

bool ebb_growth_begun(void) {
    return begun;
}

/* The commonest way in which objects of a type are held: by which type, at which offset. */
static uint32_t commonest(const struct graph *graph, const struct ebb_type *type) {
    struct {
        const struct ebb_type *holder;
        uint32_t offset, count, example;
    } way[WAYS] = {0};
    uint32_t best = GRAPH_NONE, best_count = 0;
    for (uint32_t i = 0; i < graph->nodes; i++) {
        const struct graph_node *node = &graph->node[i];
        if (node->type != type)
            continue;
        bool rooted = node->holder == GRAPH_NONE;
        const struct ebb_type *holder = rooted ? NULL : graph->node[node->holder].type;
        uint32_t offset = rooted ? node->root : graph->edge[node->holder_edge].offset;
        uint32_t at = (uint32_t)(((uintptr_t)holder >> 4) * 31 + offset) % WAYS;
        if (way[at].count == 0) {
            way[at].holder = holder;
            way[at].offset = offset;
        }
        if (way[at].holder != holder || way[at].offset != offset)
            continue; /* another way has this place: a rare one is not the commonest */
        if (++way[at].count > best_count) {
            best_count = way[at].count;
            best = i;
        }
    }
    return best;
}

static uint32_t example_of(const struct graph *graph, const struct ebb_type *type) {
    uint32_t newest = GRAPH_NONE;
    for (uint32_t i = 0; i < graph->nodes; i++)
        if (graph->node[i].type == type && graph->node[i].born >= begun_at &&
            (newest == GRAPH_NONE || graph->node[i].born > graph->node[newest].born))
            newest = i;
    return newest != GRAPH_NONE && graph->node[newest].born > 0 ? newest : commonest(graph, type);
}

/* Steps of a path that look the same, as those along a list do, are one. */
struct step {
    const struct ebb_type *type;
    uint32_t offset, times;
};

/* The steps from at up to its root, whose node is returned. */
static uint32_t climb(const struct graph *graph, uint32_t at, struct step *step, int *steps) {
    *steps = 0;
    while (graph->node[at].holder != GRAPH_NONE) {
        const struct graph_node *node = &graph->node[at];
        uint32_t offset = graph->edge[node->holder_edge].offset;
        struct step *last = *steps > 0 ? &step[*steps - 1] : NULL;
        if (last && last->type == node->type && last->offset == offset)
            last->times++;
        else if (*steps < PATH_STEPS_MAX)
            step[(*steps)++] = (struct step){node->type, offset, 1};
        at = node->holder;
    }
    return at;
}

/* "static variable kept -> list[+16] -> planted": from the root to the object. */
static void write_path(const struct graph *graph, uint32_t at, struct ebb_writer *out) {
    struct step step[PATH_STEPS_MAX];
    int steps;
    char name[128] = "a stack, a register or another thread's list";
    const struct graph_node *top = &graph->node[climb(graph, at, step, &steps)];
    if (top->root == ROOT_STATIC) {
        ebbi_variable_name(graph->variable[top->holder_edge].variable, name, sizeof name);
        ebb_writef(out, "static variable %s", name);
    } else {
        ebb_write(out, top->root == ROOT_LIBRARY ? "a library" : name);
    }
    ebb_writef(out, " -> %s", top->type ? top->type->name : "?");
    if (steps == PATH_STEPS_MAX)
        ebb_write(out, " -> ...");
    while (steps-- > 0) {
        ebb_writef(out, "[+%u] -> %s", step[steps].offset,
                   step[steps].type ? step[steps].type->name : "?");
        if (step[steps].times > 1)
            ebb_writef(out, " (%u times)", step[steps].times);
    }
}

static void write_type(const struct graph *graph, const struct ebb_type *type,
                       struct ebb_writer *writer, bool json, bool first) {
    uint32_t example = example_of(graph, type);
    char path[PATH_TEXT_MAX];
    struct ebb_array_writer text;
    ebb_array_writer_init(&text, path, sizeof path);
    if (example != GRAPH_NONE)
        write_path(graph, example, &text.writer);
    if (json) {
        ebb_writef(writer,
                   "%s\n{\"type\":\"%s\",\"before\":%" PRIu64 ",\"after\":%" PRIu64
                   ",\"held_by\":\"",
                   first ? "" : ",", type->name, before[type->id], after[type->id]);
        ebb_write_json_string(writer, path, strlen(path));
        ebb_write(writer, "\"}");
    } else {
        ebb_writef(writer, "%-20s %12" PRIu64 " -> %" PRIu64 " objects, held by: %s\n", type->name,
                   before[type->id], after[type->id], path);
    }
}

enum ebb_err ebb_growth_write(struct ebb_writer *writer, bool json) {
    struct graph graph;
    bool first = true;
    count_live(after);
    enum ebb_err error = ebbi_graph_take(&graph);
    if (error)
        return error;
    ebbi_symbols_begin();
    if (json)
        ebb_writef(writer, "{\"seconds\":%u,\"grew\":[", ebbi_seconds() - begun_at);
    for (const struct ebb_type *type = ebb_types_first(); type; type = type->next) {
        if (after[type->id] <= before[type->id])
            continue;
        write_type(&graph, type, writer, json, first);
        first = false;
    }
    if (json)
        ebb_write(writer, "]}\n");
    else if (first)
        ebb_write(writer, "no type grew\n");
    ebbi_symbols_end();
    return EBB_OK;
}
