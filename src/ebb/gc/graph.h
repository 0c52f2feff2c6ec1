/* graph -- the objects and who points to whom; internal to gc/. */
#ifndef EBBI_GC_GRAPH_H
#define EBBI_GC_GRAPH_H

#include <ebb/err.h>
#include <ebb/mem.h>

#define GRAPH_NONE UINT32_MAX

struct graph_node {
    char *at; /* the cell */
    size_t cell;
    const struct ebb_type *type; /* NULL: the collector's own */
    uint32_t born;
    uint32_t edges, first_edge;   /* out of it */
    uint32_t holder, holder_edge; /* on a shortest path from a root; GRAPH_NONE: held by a root */
    uint8_t root;                 /* enum graph_root, if a root holds it */
};

struct graph_edge {
    uint32_t to;
    uint32_t offset; /* in the holder, behind its header */
};

enum graph_root { ROOT_NOT, ROOT_STATIC, ROOT_LIBRARY, ROOT_STACK };

struct graph_static {
    uint32_t to;
    const void *variable; /* the word that points to it */
};

/* Memory from mmap that grows, as invariant 2 of graph.c wants it; zeroed. */
struct graph_room {
    void *at;
    size_t bytes;
};

struct graph {
    struct graph_node *node; /* by address */
    uint32_t nodes;
    struct graph_edge *edge; /* by node */
    uint32_t edges;
    struct graph_static *variable;
    uint32_t variables;
    struct graph_room edge_room, variable_room;
    bool refused; /* there was no memory for all of it */
};

/* Collects and reads the heap. Memory is mapped and never given back: for a process that ends soon.
 * Fails: EBB_ERR_LIMIT: the system gives no memory. */
enum ebb_err ebbi_graph_take(struct graph *graph) EBB_MUST_CHECK;
/* Makes it that large at least; it may move. False: the system gives no memory. */
bool ebbi_room_for(struct graph_room *room, size_t bytes) EBB_MUST_CHECK;
/* The sentence for that. */
enum ebb_err ebbi_room_refused(void);
/* The name of a static variable: "server", "main.c's rows+16". */
void ebbi_variable_name(const void *address, char *out, size_t size);

#endif
