/*
 * check_node.c - a worker takes the share that was chosen for it, says in words what it got, and
 * goes on where the kernel refuses; measuring leaves no memory behind.
 *
 * Decisions are tested on synthetic topologies; a topology that pretends to be this machine and has
 * cores it has not is a free test of refused bindings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/log.h"
#include "worker/node.h"

#include <hwloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static flo_err err;
static node_seat seat;
static machine m;
static machine_share share;

static hwloc_topology_t topology_of(const char *text, unsigned long flags)
{
    hwloc_topology_t t;
    assert_int_equal(hwloc_topology_init(&t), 0);
    assert_int_equal(hwloc_topology_set_flags(t, flags), 0);
    assert_int_equal(hwloc_topology_set_synthetic(t, text), 0);
    assert_int_equal(hwloc_topology_load(t), 0);
    memset(&m, 0, sizeof m);
    assert_int_equal(machine_of_topology(&m, t, &err), FLO_OK);
    m.free_bytes = (uint64_t)100 << 20;
    strcpy(m.host, "here");
    return t;
}

static void what_is_wished_goes_before_what_is_found(void **state)
{
    (void)state;
    hwloc_topology_t t = topology_of("Package:4 [NUMANode] Core:4 PU:1", 0);
    node_wish wish = {.numa = -1, .place = 1, .places = 2};
    assert_int_equal(node_choose(&seat, &share, &m, &wish, &err), FLO_OK);
    assert_string_equal(seat.host, "here");
    assert_int_equal(seat.numa, 1);
    assert_int_equal(seat.n_nodes, 4);
    assert_int_equal(seat.n_threads, 4);
    assert_int_equal(seat.cores[3], 7);
    assert_true(seat.memory_bytes == (uint64_t)(25.0 * 0.85 * (1 << 20)));

    wish = (node_wish){
        .numa = 3, .places = 1, .n_threads = 2, .memory_bytes = 77, .read_gb_per_s = 9.5};
    assert_int_equal(node_choose(&seat, &share, &m, &wish, &err), FLO_OK);
    assert_int_equal(seat.numa, 3);
    assert_int_equal(seat.n_threads, 2);
    assert_int_equal(seat.cores[1], 13);
    assert_true(seat.memory_bytes == 77);
    assert_true(seat.read_gb_per_s == 9.5);

    wish = (node_wish){.numa = 9, .places = 1};
    assert_int_equal(node_choose(&seat, &share, &m, &wish, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "NUMA node 9"));
    wish = (node_wish){.numa = -1, .places = 1, .n_threads = NODE_THREADS_MAX + 1};
    assert_int_equal(node_choose(&seat, &share, &m, &wish, &err), FLO_USAGE);
    machine_close(&m);
    hwloc_topology_destroy(t);
}

static void the_binding_is_told_in_words(void **state)
{
    (void)state;
    static const struct {
        const char *topology;
        int32_t numa, place, places;
        const char *words;
    } cases[] = {
        {"Package:1 [NUMANode] Core:4 PU:1", -1, 0, 1, "NUMA node 0 of 1, cores 0-3"},
        {"Package:2 [NUMANode] Core:4 PU:2", -1, 1, 2, "NUMA node 1 of 2, cores 8, 10, 12, 14"},
        {"Package:4 [NUMANode] Core:4 PU:1", 2, 1, 3,
         "NUMA node 2 of 4, core 9, 3 workers on the node"},
        {"Package:8 [NUMANode] Core:2 PU:1", -1, 15, 16,
         "NUMA node 7 of 8, core 15, 2 workers on the node"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hwloc_topology_t t = topology_of(cases[i].topology, 0);
        node_wish wish = {
            .numa = cases[i].numa, .place = cases[i].place, .places = cases[i].places};
        assert_int_equal(node_choose(&seat, &share, &m, &wish, &err), FLO_OK);
        node_bind(&seat, &m, &share, t);
        assert_string_equal(seat.binding, cases[i].words);
        assert_true(seat.cores_bound && seat.memory_bound);
        machine_close(&m);
        hwloc_topology_destroy(t);
    }
}

static void a_refused_binding_is_said_and_survived(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR); /* the warnings are expected */
    hwloc_topology_t t =
        topology_of("Package:2 [NUMANode] Core:512 PU:1", HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM);
    node_wish wish = {.numa = 1, .place = 9, .places = 10, .n_threads = 2};
    m.nodes[1].numa = 900; /* no kernel here has such a node */
    wish.numa = 900;
    assert_int_equal(node_choose(&seat, &share, &m, &wish, &err), FLO_OK);
    node_bind(&seat, &m, &share, t);
    assert_false(seat.cores_bound);
    assert_false(seat.memory_bound);
    assert_non_null(strstr(seat.binding, "cores not bound: "));
    assert_non_null(strstr(seat.binding, "memory not bound: "));
    assert_int_equal(seat.n_threads, 2);
    machine_close(&m);
    hwloc_topology_destroy(t);
    log_set_level(LOG_INFO);
}

static long resident_kib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void measuring_takes_a_moment_and_leaves_nothing_behind(void **state)
{
    (void)state;
    int32_t cores[3] = {0, 0, 100000}; /* the last cannot be: it reads unpinned */
    struct timespec begin, end;
    assert_true(node_measure(cores, 1, (uint64_t)8 << 20) >
                0.1); /* starts what a first thread starts */
    long before = resident_kib();
    clock_gettime(CLOCK_MONOTONIC, &begin);
    double gb = node_measure(cores, 2, (uint64_t)64 << 20);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(gb > 0.1 && gb < 10000.0);
    assert_true(resident_kib() - before < 32 * 1024);
    assert_true(end.tv_sec - begin.tv_sec < 5);
    cores[2] = 1000; /* within the kernel's set of CPUs, not within this machine */
    assert_true(node_measure(cores, 3, (uint64_t)8 << 20) > 0.1);
    assert_true(node_measure(cores, 0, (uint64_t)64 << 20) == 0.0);
    assert_true(node_measure(cores, 2, 16) == 0.0);
}

static void a_worker_sits_down_on_this_machine(void **state)
{
    (void)state;
    cpu_set_t before, after;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    node_wish wish = {.numa = -1, .place = 2, .places = 3};
    assert_int_equal(node_sit_down(&seat, &wish, &err), FLO_OK);
    assert_true(seat.n_threads >= 1 && seat.n_nodes >= 1);
    assert_true(seat.memory_bytes > 0 && seat.read_gb_per_s > 0.1);
    assert_true(CPU_ISSET((size_t)seat.cores[0], &before));
    assert_non_null(strstr(seat.binding, "NUMA node"));
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    if (seat.cores_bound) {
        for (int32_t i = 0; i < seat.n_threads; i++) {
            assert_true(CPU_ISSET((size_t)seat.cores[i], &after));
        }
        assert_true(CPU_COUNT(&after) <= CPU_COUNT(&before));
    }
    print_message("%s, %.1f GB/s\n", seat.binding, seat.read_gb_per_s);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wished_goes_before_what_is_found),
        cmocka_unit_test(the_binding_is_told_in_words),
        cmocka_unit_test(a_refused_binding_is_said_and_survived),
        cmocka_unit_test(measuring_takes_a_moment_and_leaves_nothing_behind),
        cmocka_unit_test(a_worker_sits_down_on_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
