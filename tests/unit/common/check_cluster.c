/*
 * check_cluster.c - a cluster file is taken whole or refused with the place of its fault; workers
 * are dealt over hosts, and every rank finds its seat.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cluster.h"
#include "common/plan_pins.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static cluster c;
static flo_err err;

static flo_code parse(const char *text)
{
    err.text[0] = '\0';
    return cluster_parse(&c, text, strlen(text), &err);
}

static void everything_the_interface_shows_is_read(void **state)
{
    (void)state;
    const char *text =
        "{\"name\": \"four-nodes\", \"weights\": \"q8\", \"stages\": 2, \"memory\": \"24G\","
        " \"threads\": 0, \"model\": \"models/q3o\", \"cache_dir\": \"\", \"interface\": \"eth0\","
        " \"launcher\": \"mpirun\", \"hosts\": ["
        "{\"host\": \"a\", \"workers\": 2, \"numa\": [0, 1], \"memory\": \"20G\", \"cores\": 16,"
        " \"read_gb_per_s\": 40}, {\"host\": \"b\", \"workers\": 1, \"model\": "
        "\"models/other-place\"}],"
        " \"pins\": [{\"part\": \"audio_encoder\", \"host\": \"b\"}]}\n";
    assert_int_equal(parse(text), FLO_OK);
    assert_string_equal(c.name, "four-nodes");
    assert_int_equal(c.weights, 1);
    assert_int_equal(c.n_stages, 2);
    assert_true(c.memory_bytes == (uint64_t)24 << 30);
    assert_string_equal(c.model, "models/q3o");
    assert_string_equal(c.interface, "eth0");
    assert_int_equal(c.launcher, LAUNCHER_MPIRUN);
    assert_int_equal(c.n_hosts, 2);
    assert_int_equal(c.n_pins, 1);
    assert_string_equal(c.pins[0].part, "audio_encoder");
    assert_ptr_equal(cluster_pin_of(&c, "audio_encoder"), &c.pins[0]);
    assert_string_equal(c.pins[0].host, "b");
    assert_int_equal(c.pins[0].n_workers, 0);
    assert_null(cluster_pin_of(&c, "vision_encoder"));

    assert_int_equal(cluster_deal(&c, 0, 1, &err), FLO_OK);
    assert_int_equal(cluster_workers(&c), 3);
    cluster_seat s = cluster_seat_of(&c, 2);
    assert_string_equal(s.host->name, "a");
    assert_int_equal(s.numa, 1);
    assert_int_equal(s.place, 0);
    assert_int_equal(s.places, 1);
    assert_int_equal(s.n_cores, 8);
    assert_true(s.read_gb_per_s == 20.0);
    assert_true(s.memory_bytes == (uint64_t)20 << 30); /* the host's word before the file's */
    assert_string_equal(s.model, "models/q3o");
    s = cluster_seat_of(&c, 3);
    assert_true(s.memory_bytes == (uint64_t)24 << 30);
    assert_string_equal(s.model, "models/other-place");
    assert_int_equal(s.numa, -1);
    cluster_free(&c);
}

static void the_talker_may_be_divided(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"hosts\": [{\"host\": \"a\"}, {\"host\": \"b\"}], \"pins\": ["
                           "{\"part\": \"talker\", \"host\": \"b\", \"workers\": 2},"
                           "{\"part\": \"code2wav\", \"host\": \"a\"}]}"),
                     FLO_OK);
    plan_request r = {.audio_host = "x", .talker_workers = 7};
    plan_pin_parts(&r, &c);
    assert_string_equal(r.talker_host, "b");
    assert_int_equal(r.talker_workers, 2);
    assert_string_equal(r.code2wav_host, "a");
    assert_true(r.audio_host == NULL && r.vision_host == NULL && r.predictor_host == NULL);
    cluster_free(&c);
}

static void a_fault_is_named_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"", "line 1"},
        {"{\n \"hosts\": [,]}", "line 2: "},
        {"{\"hosts\": [{\"host\": \"a\"}]} x", "line 1: "},
        {"[]", "must be an object"},
        {"{}", "hosts: missing"},
        {"{\"hosts\": []}", "hosts: must name 1 to 1024"},
        {"{\"hosts\": {\"host\": \"a\"}}", "hosts: must be a list"},
        {"{\"hosts\": [7]}", "hosts[0] must be an object"},
        {"{\"hosts\": [{\"workers\": 2}]}", "hosts[0].host: missing"},
        {"{\"hosts\": [{\"host\": \"a\"}, {\"host\": \"b\", \"cpus\": 2}]}",
         "hosts[1].cpus: unknown key"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"Name\": \"x\"}", "Name: unknown key"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"stages\": 1, \"stages\": 2}", "stages: given twice"},
        {"{\"hosts\": [{\"host\": \"a\", \"workers\": 0}]}",
         "hosts[0].workers: must be a whole number"},
        {"{\"hosts\": [{\"host\": \"a\", \"workers\": 1.5}]}",
         "hosts[0].workers: must be a whole number"},
        {"{\"hosts\": [{\"host\": \"a\", \"workers\": \"2\"}]}",
         "hosts[0].workers: must be a whole number"},
        {"{\"hosts\": [{\"host\": \"a\", \"workers\": 1e300}]}", "hosts[0].workers"},
        {"{\"hosts\": [{\"host\": \"a\", \"memory\": \"lots\"}]}",
         "hosts[0].memory: \"lots\" is not a size"},
        {"{\"hosts\": [{\"host\": \"a\", \"memory\": -5}]}", "hosts[0].memory: must be a size"},
        {"{\"hosts\": [{\"host\": \"a\", \"memory\": \"0\"}]}", "hosts[0].memory"},
        {"{\"hosts\": [{\"host\": \"a\", \"numa\": []}]}", "hosts[0].numa: must be a list"},
        {"{\"hosts\": [{\"host\": \"a\", \"numa\": [0, -1]}]}", "hosts[0].numa: entry 1"},
        {"{\"hosts\": [{\"host\": \"a\", \"workers\": 1, \"numa\": [0, 1]}]}",
         "2 nodes for 1 workers"},
        {"{\"hosts\": [{\"host\": \"a\", \"read_gb_per_s\": 0}]}", "hosts[0].read_gb_per_s"},
        {"{\"hosts\": [{\"host\": \"a\"}, {\"host\": \"a\"}]}",
         "hosts[1].host: \"a\" is there twice"},
        {"{\"hosts\": [{\"host\": \"-x\"}]}", "hosts[0].host: \"-x\" is not a host name"},
        {"{\"hosts\": [{\"host\": \"a b\"}]}", "not a host name"},
        {"{\"hosts\": [{\"host\": \"a,b\"}]}", "not a host name"},
        {"{\"hosts\": [{\"host\": \"\"}]}", "not a host name"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"interface\": \"--x\"}", "interface:"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"launcher\": \"ssh\"}", "must be one of mpirun, srun"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"weights\": \"q2\"}", "must be one of bf16, q8, q4"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"name\": \"a\\nb\"}", "name: has a control character"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"pins\": [{\"part\": \"wing\", \"host\": \"a\"}]}",
         "pins[0].part: \"wing\""},
        {"{\"hosts\": [{\"host\": \"a\"}], \"pins\": [{\"part\": \"talker\", \"host\": \"b\"}]}",
         "pins[0].host: \"b\""},
        {"{\"hosts\": [{\"host\": \"a\"}], \"pins\": [{\"part\": \"code2wav\", \"host\": \"a\","
         " \"workers\": 2}]}",
         "pins[0].workers: only the talker"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"pins\": [{\"part\": \"talker\", \"host\": \"a\","
         " \"workers\": 0}]}",
         "pins[0].workers"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"pins\": [{\"part\": \"talker\"}]}",
         "pins[0].host: missing"},
        {"{\"hosts\": [{\"host\": \"a\"}], \"pins\": [{\"part\": \"talker\", \"host\": \"a\"},"
         " {\"part\": \"talker\", \"host\": \"a\"}]}",
         "pinned twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(cases[i].text), FLO_USAGE);
        if (strstr(err.text, cases[i].said) == NULL) {
            fail_msg("%s\n  gave: %s\n  not:  %s", cases[i].text, err.text, cases[i].said);
        }
        assert_null(c.hosts);
    }
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    const char *text =
        "{\"hosts\": [{\"host\": \"a\", \"workers\": 2, \"numa\": [0, 1]}], \"memory\": \"4G\"}";
    size_t n = strlen(text);
    for (size_t k = 0; k < n; k++) {
        assert_int_equal(cluster_parse(&c, text, k, &err), FLO_USAGE);
    }
    assert_int_equal(cluster_parse(&c, text, n, &err), FLO_OK);
    cluster_free(&c);
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    assert_int_equal(cluster_read(&c, "/nonexistent/c.json", &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "cluster file: /nonexistent/c.json: No such file"));
}

static void the_example_files_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t n_workers;
    } files[] = {{"this-machine", 3}, {"four-nodes", 5}, {"slurm", 4}};
    const char *source = getenv("FLOTILLA_SOURCE_DIR");
    assert_non_null(source);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/cluster-configs/%s.json", source, files[i].name);
        assert_int_equal(cluster_read(&c, path, &err), FLO_OK);
        assert_string_equal(c.name, files[i].name);
        assert_int_equal(cluster_deal(&c, 0, 1, &err), FLO_OK);
        assert_int_equal(cluster_workers(&c), files[i].n_workers);
        cluster_free(&c);
    }
}

static void the_command_line_goes_before_the_file(void **state)
{
    (void)state;
    char path[] = "/tmp/flotilla-cluster-XXXXXX";
    int fd = mkstemp(path);
    const char *text =
        "{\"stages\": 2, \"memory\": \"2G\", \"model\": \"m\", \"threads\": 3, \"hosts\": ["
        "{\"host\": \"a\", \"workers\": 2, \"memory\": \"1G\", \"model\": \"n\"},"
        "{\"host\": \"b\", \"workers\": 3}]}";
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    run_options o;
    options_init(&o);
    o.cluster = path;
    assert_int_equal(cluster_from_options(&c, &o, 1, &err), FLO_OK);
    assert_int_equal(cluster_workers(&c), 5);
    assert_int_equal(c.n_stages, 2);
    assert_int_equal(c.n_threads, 3);
    cluster_free(&c);

    o.n_stages = 3;
    o.n_workers = 3;
    o.memory_bytes = 77;
    o.model = "other";
    assert_int_equal(cluster_from_options(&c, &o, 1, &err), FLO_OK);
    assert_int_equal(c.n_stages, 3);
    assert_int_equal(cluster_workers(&c), 3);
    for (int32_t rank = 1; rank <= 3; rank++) {
        assert_true(cluster_seat_of(&c, rank).memory_bytes == 77);
        assert_string_equal(cluster_seat_of(&c, rank).model, "other");
    }
    cluster_free(&c);
    o.n_workers = 6;
    assert_int_equal(cluster_from_options(&c, &o, 1, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, path));
    unlink(path);
    assert_int_equal(cluster_from_options(&c, &o, 1, &err), FLO_USAGE);
    options_init(&o);
    assert_int_equal(cluster_from_options(&c, &o, 2, &err), FLO_OK);
    assert_int_equal(cluster_workers(&c), 2);
    cluster_free(&c);
}

static void a_list_of_hosts_says_who_takes_how_many(void **state)
{
    (void)state;
    assert_int_equal(cluster_from_hosts(&c, "a:2,b,c-1.net:1", &err), FLO_OK);
    assert_int_equal(c.n_hosts, 3);
    assert_int_equal(c.hosts[0].n_workers, 2);
    assert_int_equal(c.hosts[1].n_workers, 0);
    assert_string_equal(c.hosts[2].name, "c-1.net");
    assert_int_equal(cluster_deal(&c, 0, 4, &err), FLO_OK);
    assert_int_equal(cluster_workers(&c), 4); /* how many nodes b has nobody knows: one */
    cluster_free(&c);
    static const char *const faulty[] = {"",    ",",    "a,,b",   "a:",    "a:0",
                                         "a:x", "a:-1", "a:2000", "a:2:3", "a,a",
                                         "a b", "-a:2", "./none", "a:+2",  "a: 2"};
    for (size_t i = 0; i < sizeof faulty / sizeof faulty[0]; i++) {
        assert_int_equal(cluster_from_hosts(&c, faulty[i], &err), FLO_USAGE);
        assert_non_null(strstr(err.text, "--hosts"));
        assert_null(c.hosts);
    }
}

static void a_hostfile_is_read_as_mpirun_reads_it(void **state)
{
    (void)state;
    char path[] = "/tmp/flotilla-hosts-XXXXXX";
    int fd = mkstemp(path);
    const char *text = "# ours\na slots=2\n\n  b\tslots=3 max_slots=4 # fast\r\nc\na slots=1\n";
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    assert_int_equal(cluster_from_hosts(&c, path, &err), FLO_OK);
    close(fd);
    unlink(path);
    assert_int_equal(c.n_hosts, 3);
    assert_int_equal(c.hosts[0].n_workers, 3);
    assert_int_equal(c.hosts[1].n_workers, 3);
    assert_int_equal(c.hosts[2].n_workers, 0);
    cluster_free(&c);
    static const char *const faulty[] = {"",        "# none\n",   "a slots\n", "a slots=0\n",
                                         "a 2\n",   "a slots=1x", "a cores=2", "a:2\n",
                                         "x\n;rm\n"};
    for (size_t i = 0; i < sizeof faulty / sizeof faulty[0]; i++) {
        assert_int_equal(cluster_parse_hostfile(&c, faulty[i], strlen(faulty[i]), &err), FLO_USAGE);
        assert_null(c.hosts);
    }
    assert_non_null(strstr(err.text, "line 2"));
}

static void workers_are_dealt_in_rounds_within_what_hosts_take(void **state)
{
    (void)state;
    assert_int_equal(cluster_from_hosts(&c, "a:1,b:3,d", &err), FLO_OK);
    assert_int_equal(cluster_deal(&c, 7, 1, &err), FLO_OK);
    assert_int_equal(c.hosts[0].n_workers, 1);
    assert_int_equal(c.hosts[1].n_workers, 3);
    assert_int_equal(c.hosts[2].n_workers, 3);
    cluster_free(&c);
    assert_int_equal(cluster_from_hosts(&c, "a:1,b:3", &err), FLO_OK);
    assert_int_equal(cluster_deal(&c, 5, 1, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "5 workers, but the hosts take 4"));
    cluster_free(&c);
    assert_int_equal(cluster_this_machine(&c, &err), FLO_OK);
    assert_int_equal(cluster_deal(&c, 0, 4, &err), FLO_OK);
    assert_int_equal(cluster_workers(&c), 4); /* one for each NUMA node */
    assert_int_equal(cluster_deal(&c, 1025, 4, &err), FLO_USAGE);
    cluster_free(&c);
}

static void every_rank_has_one_seat(void **state)
{
    (void)state;
    assert_int_equal(
        parse("{\"hosts\": [{\"host\": \"a\", \"workers\": 5, \"numa\": [1, 0], \"cores\": 7},"
              " {\"host\": \"b\"}, {\"host\": \"d\", \"workers\": 2, \"cores\": 1}]}"),
        FLO_OK);
    assert_int_equal(cluster_deal(&c, 0, 1, &err), FLO_OK);
    assert_int_equal(cluster_workers(&c), 8);
    static const int32_t numa[] = {1, 0, 1, 0, 1, -1, -1, -1};
    static const int32_t place[] = {0, 0, 1, 1, 2, 0, 0, 1};
    static const int32_t places[] = {3, 2, 3, 2, 3, 1, 2, 2};
    static const int32_t cores[] = {2, 2, 1, 1,
                                    1, 0, 1, 1}; /* at least one where the host has any */
    for (int32_t rank = 1; rank <= 8; rank++) {
        cluster_seat s = cluster_seat_of(&c, rank);
        assert_string_equal(s.host->name, rank <= 5 ? "a" : rank == 6 ? "b" : "d");
        assert_int_equal(s.numa, numa[rank - 1]);
        assert_int_equal(s.place, place[rank - 1]);
        assert_int_equal(s.places, places[rank - 1]);
        assert_int_equal(s.n_cores, cores[rank - 1]);
    }
    cluster_free(&c);
}

static void this_machine_knows_its_names(void **state)
{
    (void)state;
    char own[256] = "";
    assert_int_equal(gethostname(own, sizeof own - 1), 0);
    assert_true(cluster_host_is_local(own));
    assert_true(cluster_host_is_local("localhost"));
    assert_true(cluster_host_is_local("127.0.0.1"));
    assert_false(cluster_host_is_local("surely-another-host"));
    assert_false(cluster_host_is_local(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_the_interface_shows_is_read),
        cmocka_unit_test(the_talker_may_be_divided),
        cmocka_unit_test(a_fault_is_named_with_its_place),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(the_example_files_are_read),
        cmocka_unit_test(the_command_line_goes_before_the_file),
        cmocka_unit_test(a_list_of_hosts_says_who_takes_how_many),
        cmocka_unit_test(a_hostfile_is_read_as_mpirun_reads_it),
        cmocka_unit_test(workers_are_dealt_in_rounds_within_what_hosts_take),
        cmocka_unit_test(every_rank_has_one_seat),
        cmocka_unit_test(this_machine_knows_its_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
