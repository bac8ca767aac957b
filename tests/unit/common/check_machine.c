/*
 * check_machine.c - shares of machines with 1, 2, 4 and 8 NUMA nodes leave no core idle and give
 * none of the memory twice; free memory obeys control groups of both versions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/machine.h"

#include <hwloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static flo_err err;

static void synthetic(machine *m, const char *text)
{
    hwloc_topology_t t;
    assert_int_equal(hwloc_topology_init(&t), 0);
    assert_int_equal(hwloc_topology_set_synthetic(t, text), 0);
    assert_int_equal(hwloc_topology_load(t), 0);
    memset(m, 0, sizeof *m);
    assert_int_equal(machine_of_topology(m, t, &err), FLO_OK);
    m->free_bytes = (uint64_t)64 << 30;
    hwloc_topology_destroy(t);
}

static const struct {
    const char *text;
    int32_t n_nodes, n_cores;
} machines[] = {
    {"Package:1 [NUMANode(memory=17179869184)] L3:1 Core:4 PU:1", 1, 4},
    {"Package:2 [NUMANode(memory=17179869184)] L3:1 Core:6 PU:2", 2, 6},
    {"Package:2 Group:2 [NUMANode(memory=17179869184)] L3:1 Core:8 PU:1", 4, 8},
    {"Package:8 [NUMANode(memory=17179869184)] L3:2 Core:1 PU:2", 8, 2},
};

static void nodes_and_cores_are_found(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof machines / sizeof machines[0]; k++) {
        machine m;
        synthetic(&m, machines[k].text);
        assert_int_equal(m.n_nodes, machines[k].n_nodes);
        for (int32_t i = 0; i < m.n_nodes; i++) {
            assert_int_equal(m.nodes[i].numa, i);
            assert_int_equal(m.nodes[i].n_cores, machines[k].n_cores);
            assert_true(fabs(m.nodes[i].memory_part - 1.0 / m.n_nodes) < 1e-12);
        }
        machine_close(&m);
    }
}

static void one_hardware_thread_of_each_core_is_used(void **state)
{
    (void)state;
    machine m;
    synthetic(&m, machines[1].text); /* 2 nodes of 6 cores with 2 threads each */
    static const int32_t second[] = {12, 14, 16, 18, 20, 22};
    for (int32_t i = 0; i < 6; i++) {
        assert_int_equal(m.nodes[1].cores[i], second[i]);
    }
    machine_close(&m);
}

static void workers_are_dealt_evenly_and_divide_cores_and_memory(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof machines / sizeof machines[0]; k++) {
        machine m;
        synthetic(&m, machines[k].text);
        for (int32_t places = 1; places <= 40; places++) {
            int32_t seen[8] = {0};     /* workers of each node */
            int32_t owners[512] = {0}; /* workers of each core */
            uint64_t memory[8] = {0};
            int32_t before = 0;
            for (int32_t place = 0; place < places; place++) {
                machine_share s;
                assert_int_equal(machine_share_of(&s, &m, -1, place, places, 0, &err), FLO_OK);
                assert_true(s.node >=
                            before); /* neighbours in rank are neighbours on the machine */
                before = s.node;
                seen[s.node]++;
                memory[s.node] += s.memory_bytes;
                assert_int_equal(s.n_threads, s.n_cores);
                assert_true(s.n_cores >= 1);
                for (int32_t i = 0; i < s.n_threads; i++) {
                    owners[machine_share_core(&m, &s, i)]++;
                }
            }
            for (int32_t i = 0; i < m.n_nodes; i++) {
                int32_t n = seen[i];
                assert_true(n == places / m.n_nodes || n == places / m.n_nodes + 1);
                double part = (double)m.free_bytes * 0.85 / m.n_nodes;
                assert_true(n == 0 || fabs((double)memory[i] - part) <= n);
                for (int32_t j = 0; n > 0 && j < m.nodes[i].n_cores; j++) {
                    int32_t o = owners[m.nodes[i].cores[j]];
                    int32_t n_cores = m.nodes[i].n_cores;
                    assert_true(n <= n_cores ? o == 1 : o == n / n_cores || o == n / n_cores + 1);
                }
            }
        }
        machine_close(&m);
    }
}

static void a_wished_node_is_taken_and_shared_by_those_who_wish_it(void **state)
{
    (void)state;
    machine m;
    synthetic(&m, machines[2].text);
    machine_share s;
    assert_int_equal(machine_share_of(&s, &m, 3, 1, 2, 0, &err), FLO_OK);
    assert_int_equal(m.nodes[s.node].numa, 3);
    assert_int_equal(s.first_core, 4);
    assert_int_equal(s.n_cores, 4);
    assert_int_equal(machine_share_of(&s, &m, 4, 0, 1, 0, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "no NUMA node 4 with usable cores: there is 0, 1, 2, 3"));
    machine_close(&m);
}

static void more_threads_than_cores_go_round(void **state)
{
    (void)state;
    machine m;
    synthetic(&m, machines[0].text);
    machine_share s;
    assert_int_equal(machine_share_of(&s, &m, -1, 1, 2, 5, &err), FLO_OK);
    static const int32_t cores[] = {2, 3, 2, 3, 2};
    assert_int_equal(s.n_threads, 5);
    for (int32_t i = 0; i < 5; i++) {
        assert_int_equal(machine_share_core(&m, &s, i), cores[i]);
    }
    machine_close(&m);
}

static void a_node_of_memory_alone_seats_nobody(void **state)
{
    (void)state;
    machine m;
    synthetic(&m,
              "[NUMANode(memory=4294967296)] Package:2 [NUMANode(memory=1073741824)] Core:2 PU:1");
    double sum = 0.0;
    for (int32_t i = 0; i < m.n_nodes; i++) {
        assert_true(m.nodes[i].n_cores > 0);
        sum += m.nodes[i].memory_part;
    }
    assert_true(fabs(sum - 1.0) < 1e-9);
    machine_close(&m);
}

static void this_machine_has_a_core_and_free_memory(void **state)
{
    (void)state;
    machine m;
    assert_int_equal(machine_open(&m, &err), FLO_OK);
    assert_true(m.n_nodes >= 1 && m.nodes[0].n_cores >= 1);
    assert_true(m.free_bytes > 0);
    assert_true(m.host[0] != '\0');
    machine_close(&m);
}

/* Free memory, over made-up file systems */

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/flotilla-machine-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = strchr(full + strlen(root) + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';
        mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    fclose(f);
}

static void free_memory_is_what_the_kernel_says(void **state)
{
    (void)state;
    assert_true(machine_free_memory(root) == 0); /* nothing known */
    put("/proc/meminfo",
        "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n");
    assert_true(machine_free_memory(root) == (uint64_t)20000000 * 1024);
    put("/proc/self/cgroup", "0::/\n");
    assert_true(machine_free_memory(root) == (uint64_t)20000000 * 1024);
}

static void a_group_above_limits_those_below(void **state)
{
    (void)state;
    put("/proc/meminfo", "MemAvailable: 20000000 kB\n");
    put("/proc/self/cgroup", "0::/job/step\n");
    put("/sys/fs/cgroup/job/step/memory.max", "max\n");
    put("/sys/fs/cgroup/job/step/memory.current", "1000\n");
    put("/sys/fs/cgroup/job/memory.max", "5000000000\n");
    put("/sys/fs/cgroup/job/memory.current", "3000000000\n");
    assert_true(machine_free_memory(root) == 2000000000u);
    put("/sys/fs/cgroup/job/memory.stat", "anon 7\nactive_file 5\ninactive_file 1000000000\n");
    assert_true(machine_free_memory(root) == 3000000000u);
    put("/sys/fs/cgroup/job/step/memory.max", "1500\n");
    assert_true(machine_free_memory(root) == 500);
    put("/sys/fs/cgroup/job/step/memory.current",
        "1600\n"); /* over its limit: nothing, not unknown */
    assert_true(machine_free_memory(root) == 1);
}

static void groups_of_the_first_version_count_too(void **state)
{
    (void)state;
    put("/proc/meminfo", "MemAvailable: 20000000 kB\n");
    put("/proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/slurm/job\n0::/y\n");
    put("/sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/slurm/job/memory.usage_in_bytes", "100\n");
    assert_true(machine_free_memory(root) == (uint64_t)20000000 * 1024);
    put("/sys/fs/cgroup/memory/slurm/memory.limit_in_bytes", "4000\n");
    put("/sys/fs/cgroup/memory/slurm/memory.usage_in_bytes", "3000\n");
    put("/sys/fs/cgroup/memory/slurm/memory.stat", "inactive_file 9\ntotal_inactive_file 500\n");
    assert_true(machine_free_memory(root) == 1500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_and_cores_are_found),
        cmocka_unit_test(one_hardware_thread_of_each_core_is_used),
        cmocka_unit_test(workers_are_dealt_evenly_and_divide_cores_and_memory),
        cmocka_unit_test(a_wished_node_is_taken_and_shared_by_those_who_wish_it),
        cmocka_unit_test(more_threads_than_cores_go_round),
        cmocka_unit_test(a_node_of_memory_alone_seats_nobody),
        cmocka_unit_test(this_machine_has_a_core_and_free_memory),
        cmocka_unit_test_setup_teardown(free_memory_is_what_the_kernel_says, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(a_group_above_limits_those_below, make_root, remove_root),
        cmocka_unit_test_setup_teardown(groups_of_the_first_version_count_too, make_root,
                                        remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
