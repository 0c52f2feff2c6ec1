/* snapshot -- the object graph as Chrome DevTools reads it.
 *
 * The format is one JSON object with flat arrays: seven integers a node, three an edge, all names
 * in one table of strings at the end. Edges stand in the order of their nodes.
 *
 * Nodes, in this order: the root, one group for each kind of root, one for the resources, the
 * objects by address, the resources.
 *
 * 1. An object has the same id in every snapshot of a process, so that two can be compared: objects
 * do not move, so it comes from the address. An object made where one had died takes over its id.
 * 2. Ids fit into 32 bits, and no two nodes of a snapshot share one. Those of objects are odd. */
#include "gc/graph.h"
#include "gc/object.h"
#include "gc/types.h"
#include <ebb/heap.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    NODE_FIELDS = 7,
    TYPE_OBJECT = 3,
    TYPE_NATIVE = 8,
    TYPE_SYNTHETIC = 9,
    EDGE_ELEMENT = 1,
    EDGE_PROPERTY = 2,
};

/* The synthetic nodes; groups are ROOT_STATIC, ROOT_LIBRARY, ROOT_STACK and GROUP_RESOURCES. */
enum { GROUP_ROOT = 0, GROUP_RESOURCES = ROOT_STACK + 1, GROUPS };
static const char *const group_names[GROUPS] = {"", "(static variables)", "(libraries' memory)",
                                                "(stacks and registers)", "(resources)"};

/* Objects start at multiples of 16. Only in a heap that spans more than 32 GiB two of them may want
 * the same id; then what is taken is kept in mind, and the second takes the next free one. */
enum { ID_GRANULE_BYTES = 16 };
#define IDS_MAX (UINT32_C(1) << 31)

/* Strings: groups, then types by id (0: the collector's own), then names as they come. */
enum { STRINGS_MAX = 1 << 20 };

/* Of a node: itself, its copy while they are sorted, a place in the queue. Names: debug
 * information, and what it says. */
enum { NODE_BYTES = 2 * sizeof(struct graph_node) + 8, NAMES_BYTES = 16 << 20 };

struct snapshot {
    struct ebb_writer *writer;
    struct graph graph;
    uint32_t types, resources;
    uint32_t group_edges[GROUPS];
    struct graph_room text; /* names of resources, then of variables, each ended by NUL */
    size_t text_used;
    uint32_t names;
    struct graph_room id_taken; /* a bit for each, where two may want the same */
};

static void add_name(struct snapshot *self, const char *name) {
    size_t length = strlen(name) + 1;
    if (self->names == STRINGS_MAX || !ebbi_room_for(&self->text, self->text_used + length))
        return;
    memcpy((char *)self->text.at + self->text_used, name, length);
    self->text_used += length;
    self->names++;
}

static void add_resource(const char *kind, const char *name, void *context) {
    struct snapshot *self = context;
    char text[128];
    snprintf(text, sizeof text, "%s %s", kind, name);
    uint32_t before = self->names;
    add_name(self, text);
    self->resources += self->names - before;
}

static uint32_t string_of_type(const struct ebb_type *type) {
    return GROUPS + (type ? type->id : 0);
}

static uint32_t first_name(const struct snapshot *self) {
    return GROUPS + self->types + 1;
}

static bool ids_may_clash(const struct graph *graph) {
    return graph->nodes > 0 && (size_t)(graph->node[graph->nodes - 1].at - graph->node[0].at) >=
                                   (size_t)IDS_MAX * ID_GRANULE_BYTES;
}

static uint32_t object_id(struct snapshot *self, const char *at) {
    uint32_t id = (uint32_t)((uintptr_t)at / ID_GRANULE_BYTES % IDS_MAX);
    unsigned char *taken = self->id_taken.at;
    while (taken && taken[id / 8] & 1U << id % 8)
        id = (id + 1) % IDS_MAX;
    if (taken)
        taken[id / 8] |= (unsigned char)(1U << id % 8);
    return 2 * id + 1;
}

static void write_node(struct snapshot *self, int type, uint32_t string, uint32_t id, size_t size,
                       uint32_t edges) {
    bool first = id == 0;
    ebb_writef(self->writer, "%s%d,%u,%u,%zu,%u,0,0\n", first ? "" : ",", type, string, id, size,
               edges);
}

static void write_edge(struct snapshot *self, int type, uint32_t name, uint32_t node) {
    bool first = self->writer && node == 1 && name == 1 && type == EDGE_ELEMENT;
    ebb_writef(self->writer, "%s%d,%u,%u\n", first ? "" : ",", type, name, node * NODE_FIELDS);
}

static void write_meta(struct snapshot *self) {
    uint32_t edges = self->graph.edges;
    for (int i = 0; i < GROUPS; i++)
        edges += self->group_edges[i];
    ebb_writef(
        self->writer,
        "{\"snapshot\":{\"meta\":{\"node_fields\":[\"type\",\"name\",\"id\",\"self_size\","
        "\"edge_count\",\"trace_node_id\",\"detachedness\"],\"node_types\":[[\"hidden\","
        "\"array\",\"string\",\"object\",\"code\",\"closure\",\"regexp\",\"number\","
        "\"native\",\"synthetic\",\"concatenated string\",\"sliced string\",\"symbol\","
        "\"bigint\",\"object shape\"],\"string\",\"number\",\"number\",\"number\",\"number\","
        "\"number\"],\"edge_fields\":[\"type\",\"name_or_index\",\"to_node\"],"
        "\"edge_types\":[[\"context\",\"element\",\"property\",\"internal\",\"hidden\","
        "\"shortcut\",\"weak\"],\"string_or_number\",\"node\"],"
        "\"trace_function_info_fields\":[],\"trace_node_fields\":[],\"sample_fields\":[],"
        "\"location_fields\":[]},\"node_count\":%u,\"edge_count\":%u,"
        "\"trace_function_count\":0},\n",
        GROUPS + self->graph.nodes + self->resources, edges);
}

static void write_nodes(struct snapshot *self) {
    ebb_write(self->writer, "\"nodes\":[");
    for (uint32_t i = 0; i < GROUPS; i++)
        write_node(self, TYPE_SYNTHETIC, i, 2 * i, 0, self->group_edges[i]);
    for (uint32_t i = 0; i < self->graph.nodes; i++) {
        const struct graph_node *node = &self->graph.node[i];
        bool native = node->type == NULL || node->type->lifetime == EBB_FOREIGN ||
                      node->type->scan != EBB_POINTERS;
        write_node(self, native ? TYPE_NATIVE : TYPE_OBJECT, string_of_type(node->type),
                   object_id(self, node->at), node->cell, node->edges);
    }
    for (uint32_t i = 0; i < self->resources; i++)
        write_node(self, TYPE_NATIVE, first_name(self) + i, 2 * (GROUPS + i), 0, 0);
}

static void write_group_edges(struct snapshot *self) {
    for (uint32_t i = 1; i < GROUPS; i++)
        write_edge(self, EDGE_ELEMENT, i, i);
    for (uint32_t i = 0; i < self->graph.variables; i++)
        write_edge(self, EDGE_PROPERTY, first_name(self) + self->resources + i,
                   GROUPS + self->graph.variable[i].to);
    for (int root = ROOT_LIBRARY; root <= ROOT_STACK; root++)
        for (uint32_t i = 0, n = 0; i < self->graph.nodes; i++)
            if (self->graph.node[i].root == root)
                write_edge(self, EDGE_ELEMENT, ++n, GROUPS + i);
    for (uint32_t i = 0; i < self->resources; i++)
        write_edge(self, EDGE_ELEMENT, i + 1, GROUPS + self->graph.nodes + i);
}

static void write_edges(struct snapshot *self) {
    ebb_write(self->writer, "],\n\"edges\":[");
    write_group_edges(self);
    for (uint32_t i = 0; i < self->graph.edges; i++) {
        const struct graph_edge *edge = &self->graph.edge[i];
        write_edge(self, EDGE_ELEMENT, edge->offset / (uint32_t)sizeof(void *) + 2,
                   GROUPS + edge->to);
    }
}

static void write_string(struct snapshot *self, const char *text, bool first) {
    ebb_write(self->writer, first ? "\"" : ",\n\"");
    ebb_write_json_string(self->writer, text, strlen(text));
    ebb_write(self->writer, "\"");
}

static void write_strings(struct snapshot *self) {
    ebb_write(self->writer, "],\n\"trace_function_infos\":[],\"trace_tree\":[],\"samples\":[],"
                            "\"locations\":[],\n\"strings\":[");
    for (int i = 0; i < GROUPS; i++)
        write_string(self, group_names[i], i == 0);
    write_string(self, "(collector's own)", false);
    for (const struct ebb_type *type = ebb_types_first(); type; type = type->next)
        write_string(self, type->name, false);
    const char *name = self->text.at;
    for (uint32_t i = 0; i < self->names; i++, name += strlen(name) + 1)
        write_string(self, name, false);
    ebb_write(self->writer, "]}\n");
}

static void name_variables(struct snapshot *self) {
    char name[128];
    uint32_t named = 0;
    ebbi_symbols_begin();
    for (; named < self->graph.variables; named++) {
        uint32_t before = self->names;
        ebbi_variable_name(self->graph.variable[named].variable, name, sizeof name);
        add_name(self, name);
        if (self->names == before)
            break;
    }
    ebbi_symbols_end();
    self->graph.variables = named;
}

enum ebb_err ebb_snapshot_write(struct ebb_writer *writer,
                                const struct ebb_snapshot_resources *resources) {
    struct snapshot self = {.writer = writer};
    for (const struct ebb_type *type = ebb_types_first(); type; type = type->next)
        self.types++;
    enum ebb_err error = ebbi_graph_take(&self.graph);
    if (error == EBB_OK && ids_may_clash(&self.graph) &&
        !ebbi_room_for(&self.id_taken, IDS_MAX / 8))
        error = ebbi_room_refused();
    if (error)
        return error;
    if (resources)
        resources->each(add_resource, &self);
    name_variables(&self);
    self.group_edges[GROUP_ROOT] = GROUPS - 1;
    self.group_edges[ROOT_STATIC] = self.graph.variables;
    for (uint32_t i = 0; i < self.graph.nodes; i++)
        if (self.graph.node[i].root > ROOT_STATIC)
            self.group_edges[self.graph.node[i].root]++;
    self.group_edges[GROUP_RESOURCES] = self.resources;
    write_meta(&self);
    write_nodes(&self);
    write_edges(&self);
    write_strings(&self);
    return EBB_OK;
}

/* Each word of a scanned object may be an edge, which is as large as the word. */
uint64_t ebb_snapshot_bytes(void) {
    uint64_t sum = NAMES_BYTES;
    for (const struct ebb_type *type = ebb_types_first(); type; type = type->next) {
        uint64_t objects = atomic_load(&type->allocated) - atomic_load(&type->gone);
        sum += objects * NODE_BYTES;
        if (type->scan == EBB_POINTERS)
            sum += ebb_type_bytes_held(type);
    }
    return sum;
}
