/*
 * check_job_command.c - ranks come in the order of the hosts, rank 0 here, whatever the launcher.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/job_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char joined[8192];

static const char *join(const word_list *l)
{
    joined[0] = '\0';
    for (size_t i = 0; i < l->n; i++) {
        size_t used = strlen(joined);
        snprintf(joined + used, sizeof joined - used, "%s%s", i > 0 ? " " : "", l->words[i]);
    }
    return joined;
}

static void make(job_command *c, const char *hosts, const char *launcher, bool given)
{
    cluster cl;
    flo_err err = {""};
    assert_int_equal(hosts != NULL ? cluster_from_hosts(&cl, hosts, &err)
                                   : cluster_this_machine(&cl, &err),
                     FLO_OK);
    assert_int_equal(cluster_deal(&cl, 3, 1, &err), FLO_OK);
    word_list options = {0};
    word_list_add(&options, "--model=/m o'd");
    const job_request r = {.launcher = launcher,
                           .programs = "/p",
                           .hosts = &cl,
                           .hosts_given = given,
                           .options = &options,
                           .interface = "eth7",
                           .run_folder = "/run",
                           .memory_folder = "/shm",
                           .socket = "/run/socket",
                           .token = "t"};
    job_command_make(c, &r);
    word_list_free(&options);
    cluster_free(&cl);
}

static void one_machine_needs_no_hosts_and_opens_no_ports(void **state)
{
    (void)state;
    job_command c;
    make(&c, NULL, "mpirun", false);
    assert_string_equal(join(&c.words),
                        "mpirun --oversubscribe --bind-to none -np 1 /p/flotilla-coordinator "
                        "--model=/m o'd : -np 3 /p/flotilla-worker");
    assert_string_equal(join(&c.own_environment),
                        "FLOTILLA_GATEWAY=/run/socket FLOTILLA_GATEWAY_TOKEN=t");
    assert_non_null(strstr(join(&c.default_environment), "OMPI_MCA_btl_tcp_if_include=lo"));
    assert_non_null(strstr(joined, "btl_vader_backing_directory=/shm"));
    assert_null(strstr(joined, "keepalive"));
    job_command_free(&c);
}

static void several_hosts_get_their_ranks_in_order(void **state)
{
    (void)state;
    job_command c;
    char here[256], expected[1024];
    gethostname(here, sizeof here);
    setenv("FLOTILLA_ISA", "avx2", 1);
    setenv("FLOTILLA_GATEWAY_SECRET", "x", 1);
    make(&c, "far:2,farther:1", "mpirun", true);
    unsetenv("FLOTILLA_ISA");
    snprintf(expected, sizeof expected,
             "-np 1 --host %s:1 /p/flotilla-coordinator --model=/m o'd : -np 2 --host far:2 "
             "/p/flotilla-worker : -np 1 "
             "--host farther:1 /p/flotilla-worker",
             here);
    assert_non_null(strstr(join(&c.words), expected));
    assert_non_null(strstr(joined, "-x FLOTILLA_ISA "));
    assert_null(strstr(joined, "FLOTILLA_GATEWAY"));
    assert_non_null(strstr(join(&c.own_environment), "OMPI_MCA_oob_tcp_if_include=eth7"));
    assert_non_null(strstr(join(&c.default_environment), "OMPI_MCA_oob_tcp_keepalive_time=2"));
    assert_null(strstr(joined, "=lo"));
    assert_null(strstr(joined, "/shm"));
    job_command_free(&c);
}

static void srun_gets_the_coordinator_as_task_0(void **state)
{
    (void)state;
    job_command c;
    setenv("SLURMD_NODENAME", "n1", 1);
    make(&c, "n1:1,n2:2", "srun", true);
    unsetenv("SLURMD_NODENAME");
    assert_non_null(strstr(join(&c.words), "srun --mpi=pmix --kill-on-bad-exit=1"));
    assert_non_null(
        strstr(joined, "--ntasks=4 --distribution=arbitrary --multi-prog /run/ranks.conf"));
    assert_string_equal(c.multi_prog, "0 /bin/sh /run/coordinator.sh\n1-3 /p/flotilla-worker\n");
    assert_string_equal(c.coordinator_script,
                        "#!/bin/sh\nexec '/p/flotilla-coordinator' '--model=/m o'\\''d'\n");
    assert_string_equal(c.host_list, "n1\nn1\nn2\nn2\n");
    job_command_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_machine_needs_no_hosts_and_opens_no_ports),
        cmocka_unit_test(several_hosts_get_their_ranks_in_order),
        cmocka_unit_test(srun_gets_the_coordinator_as_task_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
