/* graph -- the heap as objects and pointers, read in a frozen copy of the process.
 *
 * All marked objects are listed and sorted by address; each word of a scanned object that points
 * into another one is an edge. Roots are read from the writable segments of the program and its
 * libraries; FOREIGN objects are roots as such. What no path from these reaches is held by a stack
 * or a register, or by another thread's list: its first object is called a root of that kind.
 *
 * 1. Only in a forked copy: nothing changes while we look, and nothing is given back.
 * 2. Memory comes from mmap, not from the heap that is being read; as much as there is something to
 * put into it, and growing where that is not known before.
 * 3. Each object has a holder on a shortest path from a root, found by a breadth-first search. */
#include "gc/graph.h"
#include "gc/walk.h"
#include <ebb/collector.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>
#include <gc/gc_mark.h>

#define ROOM_BYTES (64 << 10) /* to begin with */

bool ebbi_room_for(struct graph_room *room, size_t bytes) {
    if (bytes <= room->bytes)
        return true;
    size_t more = room->bytes ? 2 * room->bytes : ROOM_BYTES;
    while (more < bytes)
        more *= 2;
    void *at = room->at ? mremap(room->at, room->bytes, more, MREMAP_MAYMOVE)
                        : mmap(NULL, more, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return false;
    *room = (struct graph_room){at, more};
    return true;
}

enum ebb_err ebbi_room_refused(void) {
    return ebb_err_set(
        EBB_ERR_LIMIT,
        "the system gives no memory for the object graph; see ulimit -v (LimitAS= of "
        "a service)");
}

/* The place for one more thing of this size behind so many; NULL: there is none. */
static void *one_more(struct graph *graph, struct graph_room *room, uint32_t count, size_t size) {
    if (!ebbi_room_for(room, ((size_t)count + 1) * size)) {
        graph->refused = true;
        return NULL;
    }
    return (char *)room->at + count * size;
}

static void count_node(void *base, size_t cell, const struct object_header *header, void *context) {
    (void)base, (void)cell, (void)header;
    (*(uint32_t *)context)++;
}

static struct ebb_type *type_at(uint32_t id) {
    struct ebb_type *type = ebb_types_first();
    while (type && type->id != id)
        type = type->next;
    return type;
}

static void add_node(void *base, size_t cell, const struct object_header *header, void *context) {
    struct graph *graph = context;
    struct graph_node *node = &graph->node[graph->nodes++];
    *node = (struct graph_node){.at = base, .cell = cell, .holder = GRAPH_NONE};
    if (header) {
        node->type = type_at(header->type);
        node->born = header->born;
    }
}

static int by_address(const void *a, const void *b) {
    const struct graph_node *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

static bool holds(const struct graph_node *node, const char *word) {
    enum { FIRST_PAGE = 4096 };
    return node->type == NULL || node->type->scan != EBB_BYTES_BY_START ||
           word < node->at + FIRST_PAGE;
}

static uint32_t find(const struct graph *graph, const void *word) {
    const char *base = GC_base((void *)(uintptr_t)word);
    uint32_t low = 0, high = base ? graph->nodes : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (graph->node[middle].at == base)
            return holds(&graph->node[middle], word) ? middle : GRAPH_NONE;
        if (graph->node[middle].at < base)
            low = middle + 1;
        else
            high = middle;
    }
    return GRAPH_NONE;
}

static bool may_point(const struct graph *graph, const char *word) {
    const struct graph_node *last = &graph->node[graph->nodes - 1];
    return word >= graph->node[0].at && word < last->at + last->cell;
}

static bool scanned(const struct graph_node *node) {
    if (node->type)
        return node->type->scan == EBB_POINTERS || node->type->lifetime == EBB_FOREIGN;
    enum { POINTER_FREE = 0 };
    return GC_get_kind_and_size(node->at, NULL) != POINTER_FREE;
}

__attribute__((no_sanitize("address"))) static void add_edges(struct graph *graph, uint32_t at) {
    struct graph_node *node = &graph->node[at];
    size_t skip = node->type ? sizeof(struct object_header) : 0;
    node->first_edge = graph->edges;
    if (!scanned(node))
        return;
    for (size_t i = skip; i + sizeof(char *) <= node->cell; i += sizeof(char *)) {
        const char *word = *(const char **)(void *)(node->at + i);
        uint32_t to = may_point(graph, word) ? find(graph, word) : GRAPH_NONE;
        if (to == GRAPH_NONE || to == at)
            continue;
        struct graph_edge *edge = one_more(graph, &graph->edge_room, graph->edges, sizeof *edge);
        if (edge == NULL)
            return;
        *edge = (struct graph_edge){to, (uint32_t)(i - skip)};
        graph->edges++;
        node->edges++;
    }
}

/* Words of a writable segment that point to objects. */
__attribute__((no_sanitize("address"))) static void read_static(struct graph *graph,
                                                                const char *from, const char *to) {
    from += -(uintptr_t)from % sizeof(char *);
    for (; from + sizeof(char *) <= to; from += sizeof(char *)) {
        const char *word = *(const char *const *)(const void *)from;
        uint32_t at = may_point(graph, word) ? find(graph, word) : GRAPH_NONE;
        if (at == GRAPH_NONE)
            continue;
        struct graph_static *variable =
            one_more(graph, &graph->variable_room, graph->variables, sizeof *variable);
        if (variable == NULL)
            return;
        *variable = (struct graph_static){at, from};
        graph->variables++;
    }
}

static int on_library(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    bool collector = info->dlpi_name && strstr(info->dlpi_name, "libgc.so");
    for (int i = 0; i < info->dlpi_phnum && !collector; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_W))
            continue;
        const char *at = (const char *)(info->dlpi_addr + part->p_vaddr);
        read_static(context, at, at + part->p_memsz);
    }
    return 0;
}

/* Three arrays of a member for each node, in one piece. */
struct search {
    struct graph *graph;
    uint32_t *queue;
    uint32_t head, tail;
    unsigned char *reached, *pointed;
};

static void reach(struct search *search, uint32_t at, uint32_t holder, uint32_t edge,
                  enum graph_root root) {
    if (search->reached[at])
        return;
    struct graph_node *node = &search->graph->node[at];
    search->reached[at] = 1;
    node->holder = holder;
    node->holder_edge = edge;
    node->root = (uint8_t)root;
    search->queue[search->tail++] = at;
}

static void spread(struct search *search) {
    while (search->head < search->tail) {
        uint32_t at = search->queue[search->head++];
        const struct graph_node *node = &search->graph->node[at];
        for (uint32_t i = 0; i < node->edges; i++)
            reach(search, search->graph->edge[node->first_edge + i].to, at, node->first_edge + i,
                  ROOT_NOT);
    }
}

/* Roots first; then what nothing in the heap points to; then one of each rest. */
static bool find_holders(struct graph *graph) {
    struct graph_room room = {0};
    if (!ebbi_room_for(&room, graph->nodes * (sizeof(uint32_t) + 2)) || room.at == NULL)
        return false;
    struct search search = {.graph = graph, .queue = room.at};
    search.reached = (unsigned char *)(search.queue + graph->nodes);
    search.pointed = search.reached + graph->nodes;
    for (uint32_t i = 0; i < graph->edges; i++)
        search.pointed[graph->edge[i].to] = 1;
    for (uint32_t i = 0; i < graph->variables; i++)
        reach(&search, graph->variable[i].to, GRAPH_NONE, i, ROOT_STATIC);
    for (uint32_t i = 0; i < graph->nodes; i++)
        if (graph->node[i].type && graph->node[i].type->lifetime == EBB_FOREIGN)
            reach(&search, i, GRAPH_NONE, 0, ROOT_LIBRARY);
    spread(&search);
    for (uint32_t i = 0; i < graph->nodes; i++)
        if (!search.pointed[i])
            reach(&search, i, GRAPH_NONE, 0, ROOT_STACK);
    spread(&search);
    for (uint32_t i = 0; i < graph->nodes; i++) {
        reach(&search, i, GRAPH_NONE, 0, ROOT_STACK);
        spread(&search);
    }
    return true;
}

enum ebb_err ebbi_graph_take(struct graph *graph) {
    *graph = (struct graph){0};
    ebb_collect(EBB_CAUSE_demand);
    uint32_t nodes = 0;
    ebbi_heap_walk(count_node, &nodes);
    struct graph_room room = {0};
    if (!ebbi_room_for(&room, (nodes + 1) * sizeof *graph->node))
        return ebbi_room_refused();
    graph->node = room.at;
    ebbi_heap_walk(add_node, graph);
    if (graph->nodes == 0)
        return EBB_OK;
    qsort(graph->node, graph->nodes, sizeof *graph->node, by_address);
    for (uint32_t i = 0; i < graph->nodes && !graph->refused; i++)
        add_edges(graph, i);
    graph->edge = graph->edge_room.at;
    dl_iterate_phdr(on_library, graph);
    graph->variable = graph->variable_room.at;
    return !graph->refused && find_holders(graph) ? EBB_OK : ebbi_room_refused();
}
