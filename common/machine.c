/*
 * machine.c - hwloc's topology reduced to nodes with cores, /proc and control groups to one number.
 */
#include "common/machine.h"

#include "common/check.h"

#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Free memory */

enum { PATH_BYTES = 4096, GROUP_FILE_BYTES = 1 << 16 };

static const uint64_t unlimited = UINT64_MAX;

/* A whole small file as text; false where there is none. */
static bool file_text(char *text, size_t n_bytes, const char *path)
{
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        return false;
    }
    size_t n = fread(text, 1, n_bytes - 1, f);
    fclose(f);
    text[n] = '\0';
    return n > 0;
}

/* The number behind `key` at the start of a line; 0 where there is none. */
static uint64_t number_after(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0) {
            return strtoull(line + n, NULL, 10);
        }
    }
    return 0;
}

/* A file that holds one number; `unlimited` where there is none, or "max". */
static uint64_t file_number(const char *folder, const char *name)
{
    char path[PATH_BYTES + 64];
    char text[64];
    char *end = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!file_text(text, sizeof text, path)) {
        return unlimited;
    }
    uint64_t n = strtoull(text, &end, 10);
    return end != text ? n : unlimited;
}

typedef struct group_files { /* names in one version of control groups */
    const char *limit, *usage, *reclaimable;
} group_files;

static const group_files version_1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                      "total_inactive_file "};
static const group_files version_2 = {"memory.max", "memory.current", "inactive_file "};

/* Room left in one group. */
static uint64_t group_room(const char *folder, const group_files *files)
{
    uint64_t limit = file_number(folder, files->limit);
    uint64_t usage = file_number(folder, files->usage);
    if (limit >= (uint64_t)1 << 60 || usage == unlimited) {
        return unlimited; /* version 1 says "no limit" as the largest page count */
    }
    char path[PATH_BYTES + 64];
    static _Thread_local char text[GROUP_FILE_BYTES];
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    uint64_t reclaimable =
        file_text(text, sizeof text, path) ? number_after(text, files->reclaimable) : 0;
    usage -= reclaimable < usage ? reclaimable : usage;
    return limit > usage ? limit - usage : 1;
}

/* The least room from a group up to the root of its tree. */
static uint64_t room_upwards(const char *tree, const char *group, const group_files *files)
{
    char folder[PATH_BYTES];
    size_t n_tree = strlen(tree);
    int n = snprintf(folder, sizeof folder, "%s%s", tree, group);
    if (n < 0 || (size_t)n >= sizeof folder) {
        return unlimited;
    }
    uint64_t least = unlimited;
    for (;;) {
        uint64_t room = group_room(folder, files);
        least = room < least ? room : least;
        char *slash = strrchr(folder + n_tree, '/');
        if (slash == NULL) {
            return least;
        }
        *slash = '\0';
    }
}

/* One line of /proc/self/cgroup: "4:memory:/group" (version 1) or "0::/group" (version 2). */
static uint64_t room_of_line(const char *root, char *line)
{
    char tree[PATH_BYTES];
    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL) {
        return unlimited;
    }
    *controllers++ = '\0';
    *group++ = '\0';
    if (controllers[0] == '\0') {
        snprintf(tree, sizeof tree, "%s/sys/fs/cgroup", root);
        return room_upwards(tree, group, &version_2);
    }
    if (strstr(controllers, "memory") != NULL) {
        snprintf(tree, sizeof tree, "%s/sys/fs/cgroup/memory", root);
        return room_upwards(tree, group, &version_1);
    }
    return unlimited;
}

static uint64_t group_memory(const char *root)
{
    char path[PATH_BYTES];
    char text[PATH_BYTES];
    uint64_t least = unlimited;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!file_text(text, sizeof text, path)) {
        return unlimited;
    }
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        uint64_t room = room_of_line(root, line);
        least = room < least ? room : least;
    }
    return least;
}

uint64_t machine_free_memory(const char *root)
{
    char path[PATH_BYTES];
    char text[8192];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    uint64_t kib = file_text(text, sizeof text, path) ? number_after(text, "MemAvailable:") : 0;
    uint64_t available = kib > 0 ? kib * 1024 : unlimited;
    uint64_t room = group_memory(root);
    uint64_t least = room < available ? room : available;
    return least == unlimited ? 0 : least;
}

/* Nodes and cores */

flo_code machine_topology(struct hwloc_topology **out, flo_err *err)
{
    hwloc_topology_t t;
    if (hwloc_topology_init(&t) != 0) {
        return flo_fail(err, FLO_FAIL, "hwloc could not start");
    }
    if (hwloc_topology_load(t) != 0) {
        hwloc_topology_destroy(t);
        return flo_fail(err, FLO_FAIL, "hwloc could not read this machine's topology");
    }
    hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
    if (allowed != NULL && hwloc_topology_is_thissystem(t) &&
        hwloc_get_cpubind(t, allowed, HWLOC_CPUBIND_PROCESS) == 0 &&
        hwloc_bitmap_intersects(allowed, hwloc_topology_get_topology_cpuset(t))) {
        hwloc_topology_restrict(t, allowed, 0); /* what mpirun or srun bound us to */
    }
    hwloc_bitmap_free(allowed);
    *out = t;
    return FLO_OK;
}

/* The node's cores, one hardware thread of each; none where it has none. */
static flo_code node_cores(machine_node *n, hwloc_topology_t t, hwloc_const_cpuset_t cpus,
                           flo_err *err)
{
    int n_cores = hwloc_get_nbobjs_inside_cpuset_by_type(t, cpus, HWLOC_OBJ_CORE);
    hwloc_obj_type_t type = n_cores > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU; /* some virtual machines */
    n_cores = hwloc_get_nbobjs_inside_cpuset_by_type(t, cpus, type);
    if (n_cores <= 0) {
        return FLO_OK;
    }
    n->cores = calloc((size_t)n_cores, sizeof *n->cores);
    if (n->cores == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for %d cores", n_cores);
    }
    for (int i = 0; i < n_cores; i++) {
        hwloc_obj_t core = hwloc_get_obj_inside_cpuset_by_type(t, cpus, type, (unsigned)i);
        n->cores[i] = hwloc_bitmap_first(core->cpuset);
    }
    n->n_cores = n_cores;
    return FLO_OK;
}

static uint64_t node_cache(hwloc_topology_t t, hwloc_const_cpuset_t cpus)
{
    uint64_t sum = 0;
    hwloc_obj_t cache = NULL;
    while ((cache = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_L3CACHE, cache)) != NULL) {
        sum += hwloc_bitmap_intersects(cache->cpuset, cpus) ? cache->attr->cache.size : 0;
    }
    return sum;
}

static int by_numa(const void *a, const void *b)
{
    const machine_node *x = a;
    const machine_node *y = b;
    return (x->numa > y->numa) - (x->numa < y->numa);
}

/* Parts of the whole by the nodes' sizes; equal ones where a size is unknown. Only the ratio is
 * used: hwloc's sizes need not add up to what the machine has. */
static void set_memory_parts(machine *m, const uint64_t *sizes)
{
    double sum = 0.0;
    bool known = true;
    for (int32_t i = 0; i < m->n_nodes; i++) {
        sum += (double)sizes[i];
        known = known && sizes[i] > 0;
    }
    for (int32_t i = 0; i < m->n_nodes; i++) {
        m->nodes[i].memory_part = known ? (double)sizes[i] / sum : 1.0 / m->n_nodes;
    }
}

flo_code machine_of_topology(machine *m, struct hwloc_topology *t, flo_err *err)
{
    uint64_t sizes[MACHINE_NODES_MAX];
    m->n_nodes = 0;
    hwloc_obj_t obj = NULL;
    while ((obj = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, obj)) != NULL &&
           m->n_nodes < MACHINE_NODES_MAX) {
        machine_node *n = &m->nodes[m->n_nodes];
        *n = (machine_node){.numa = (int32_t)obj->os_index,
                            .cache_bytes = node_cache(t, obj->cpuset)};
        flo_code code = node_cores(n, t, obj->cpuset, err);
        if (code != FLO_OK) {
            machine_close(m);
            return code;
        }
        sizes[m->n_nodes] = obj->attr->numanode.local_memory;
        m->n_nodes += n->n_cores > 0; /* a node of memory alone seats nobody */
    }
    if (m->n_nodes == 0) {
        return flo_fail(err, FLO_FAIL,
                        "hwloc found no NUMA node with a core that this process may use");
    }
    set_memory_parts(m, sizes);
    qsort(m->nodes, (size_t)m->n_nodes, sizeof m->nodes[0], by_numa);
    return FLO_OK;
}

void machine_host_name(char name[256])
{
    char own[256] = "";
    if (gethostname(own, sizeof own - 1) != 0 || own[0] == '\0') {
        strcpy(own, "localhost");
    }
    memcpy(name, own, sizeof own);
}

flo_code machine_open(machine *m, flo_err *err)
{
    memset(m, 0, sizeof *m);
    hwloc_topology_t t;
    flo_code code = machine_topology(&t, err);
    if (code != FLO_OK) {
        return code;
    }
    code = machine_of_topology(m, t, err);
    hwloc_topology_destroy(t);
    machine_host_name(m->host);
    m->free_bytes = machine_free_memory("");
    return code;
}

void machine_close(machine *m)
{
    for (int32_t i = 0; i < m->n_nodes; i++) {
        free(m->nodes[i].cores);
    }
    m->n_nodes = 0;
}

/* Shares */

static flo_code no_such_node(const machine *m, int32_t numa, flo_err *err)
{
    char nodes[256] = "";
    size_t used = 0;
    for (int32_t i = 0; i < m->n_nodes && used < sizeof nodes - 16; i++) {
        used += (size_t)snprintf(nodes + used, sizeof nodes - used, "%s%d", i > 0 ? ", " : "",
                                 m->nodes[i].numa);
    }
    return flo_fail(err, FLO_USAGE, "no NUMA node %d with usable cores: there is %s", numa, nodes);
}

/* Which node, and which of how many on it. */
static flo_code find_node(machine_share *s, int32_t *place_on_node, const machine *m, int32_t numa,
                          int32_t place, int32_t places, flo_err *err)
{
    if (numa < 0) {
        int32_t least = places / m->n_nodes;
        int32_t n_more = places % m->n_nodes;
        int32_t begin = 0;
        for (s->node = 0;; s->node++) {
            s->n_sharers = least + (s->node < n_more);
            if (place < begin + s->n_sharers) {
                *place_on_node = place - begin;
                return FLO_OK;
            }
            begin += s->n_sharers;
        }
    }
    for (int32_t i = 0; i < m->n_nodes; i++) {
        if (m->nodes[i].numa == numa) {
            s->node = i;
            s->n_sharers = places;
            *place_on_node = place;
            return FLO_OK;
        }
    }
    return no_such_node(m, numa, err);
}

flo_code machine_share_of(machine_share *s, const machine *m, int32_t numa, int32_t place,
                          int32_t places, int32_t n_threads, flo_err *err)
{
    CHECK(places >= 1 && place >= 0 && place < places && m->n_nodes >= 1);
    memset(s, 0, sizeof *s);
    int32_t mine = 0;
    flo_code code = find_node(s, &mine, m, numa, place, places, err);
    if (code != FLO_OK) {
        return code;
    }
    const machine_node *n = &m->nodes[s->node];
    if (n->n_cores >= s->n_sharers) {
        s->first_core = (int32_t)((int64_t)n->n_cores * mine / s->n_sharers);
        s->n_cores = (int32_t)((int64_t)n->n_cores * (mine + 1) / s->n_sharers) - s->first_core;
    } else {
        s->first_core = mine % n->n_cores;
        s->n_cores = 1;
    }
    s->n_threads = n_threads > 0 ? n_threads : s->n_cores;
    s->memory_bytes = (uint64_t)((double)m->free_bytes * n->memory_part * 0.85 / s->n_sharers);
    return FLO_OK;
}

int32_t machine_share_core(const machine *m, const machine_share *s, int32_t i)
{
    return m->nodes[s->node].cores[s->first_core + i % s->n_cores];
}
