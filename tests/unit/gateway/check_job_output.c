/*
 * check_job_output.c - from what launchers really printed, the one sentence that a person needs.
 *
 * The texts were recorded from Open MPI 4.1.4 and Slurm 22.05.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/job_output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char shown[8192];

static void show(void *arg, const char *line)
{
    (void)arg;
    size_t used = strlen(shown);
    snprintf(shown + used, sizeof shown - used, "%s\n", line);
}

static job_output *take(const char *text)
{
    job_output *o = calloc(1, sizeof *o);
    o->show = show;
    shown[0] = '\0';
    for (size_t i = 0; i < strlen(text); i += 7) { /* in pieces, as pipes give them */
        size_t n = strlen(text) - i < 7 ? strlen(text) - i : 7;
        job_output_take(o, text + i, n);
    }
    job_output_end(o);
    return o;
}

static void says(const char *text, const char *launcher, int wait_status, flo_code code,
                 const char *sentence)
{
    job_output *o = take(text);
    flo_err err = {""};
    assert_int_equal(job_output_explain(o, launcher, wait_status, &err), code);
    assert_string_equal(err.text, sentence);
    free(o);
}

#define RULE "--------------------------------------------------------------------------\n"
#define ABORTED                                                                                    \
    RULE "Primary job  terminated normally, but 1 process returned\na non-zero exit code. Per "    \
         "user-direction, the job has been aborted.\n" RULE

enum { EXIT_1 = 1 << 8, EXIT_2 = 2 << 8, EXIT_137 = 137 << 8, SIGNAL_9 = 9 };

static void a_killed_rank_is_named_with_its_host(void **state)
{
    (void)state;
    says(ABORTED RULE "mpirun noticed that process rank 2 with PID 0 on node vm exited on signal 9 "
                      "(Killed).\n" RULE,
         "mpirun", EXIT_137, FLO_FAIL, "worker rank 2 on host vm was killed by signal 9 (Killed)");
    says(RULE "mpirun noticed that process rank 0 with PID 12 on node a-1.b exited on signal 11 "
              "(Segmentation fault).\n",
         "mpirun", EXIT_1, FLO_FAIL,
         "the coordinator (rank 0) on host a-1.b was killed by signal 11 (Segmentation fault)");
}

static void a_rank_that_failed_without_a_word_is_named(void **state)
{
    (void)state;
    says(ABORTED RULE "mpirun detected that one or more processes exited with non-zero status, "
                      "thus causing\nthe job "
                      "to be terminated. The first process to do so was:\n\n  Process name: "
                      "[[23924,1],2]\n  Exit code:   "
                      " 7\n" RULE,
         "mpirun", 7 << 8, FLO_FAIL, "worker rank 2 ended with exit status 7 and gave no reason");
}

static void the_ranks_own_error_goes_before_the_launchers_notice(void **state)
{
    (void)state;
    says("flotilla: rank 2: error: b.safetensors: truncated\nflotilla: rank 1: error: "
         "later\n" ABORTED "  Process name: [[1,1],2]\n  Exit code:    1\n",
         "mpirun", EXIT_1, FLO_FAIL, "worker rank 2: b.safetensors: truncated");
    says("flotilla: error: --stages 9: over the layers\n", "mpirun", EXIT_2, FLO_USAGE,
         "--stages 9: over the layers");
    assert_string_equal(shown, ""); /* kept for the end, not shown twice */
}

static void hosts_that_cannot_be_reached_are_told(void **state)
{
    (void)state;
    says("ssh: Could not resolve hostname b: Name or service not known\n" RULE
         "ORTE was unable to reliably start one or more daemons.\n",
         "mpirun", EXIT_1, FLO_FAIL,
         "a host cannot be reached: ssh: Could not resolve hostname b: Name or service not known");
    says("mpirun was unable to launch the specified application:\n\n  Executable: "
         "/x/flotilla-worker\n  Node: b\n",
         "mpirun", EXIT_1, FLO_FAIL,
         "host b cannot run /x/flotilla-worker; install Flotilla at the same place on every host");
}

static void slurm_is_understood(void **state)
{
    (void)state;
    says("srun: error: n2: task 2: Killed\nsrun: launch/slurm: _step_signal: Terminating "
         "StepId=1.0\n",
         "srun", EXIT_137, FLO_FAIL, "worker rank 2 on host n2: Killed");
    says("srun: error: Unable to create step for job 5: Invalid node name specified\n", "srun",
         EXIT_1, FLO_FAIL, "srun: Unable to create step for job 5: Invalid node name specified");
}

static void the_unknown_is_quoted(void **state)
{
    (void)state;
    says(RULE "\nA thing nobody has seen before\n" RULE, "mpirun", EXIT_1, FLO_FAIL,
         "mpirun ended with exit status 1: A thing nobody has seen before (--verbose shows all it "
         "said)");
    says("", "mpirun", SIGNAL_9, FLO_FAIL, "mpirun was killed by signal 9 (Killed)");
    says("flotilla: rank x\nprocess rank \nProcess name: [[\nExit code:\nsrun: error:\n", "mpirun",
         EXIT_1, FLO_FAIL,
         "mpirun ended with exit status 1: process rank  (--verbose shows all it said)");
}

static void log_lines_pass_and_talk_does_not(void **state)
{
    (void)state;
    job_output *o = take("flotilla: loading\nflotilla: rank 3: warn: slow\nflotilla: debug: "
                         "x\nnoise\nflotilla: rank 1: trace: y");
    assert_string_equal(shown, "flotilla: loading\nflotilla: rank 3: warn: slow\n");
    free(o);
}

static void endless_talk_keeps_its_last_lines_only(void **state)
{
    (void)state;
    job_output *o = calloc(1, sizeof *o);
    o->show = show;
    shown[0] = '\0';
    char line[64];
    for (int i = 0; i < 1000; i++) {
        int n = snprintf(line, sizeof line, "line %d\n", i);
        job_output_take(o, line, (size_t)n);
    }
    char *long_line = calloc(1, 100000);
    memset(long_line, 'z', 99999);
    job_output_take(o, long_line, 99999);
    job_output_end(o);
    job_output_show_talk(o);
    assert_null(strstr(shown, "line 100\n"));
    assert_true(o->n_talk > 1000);
    free(long_line);
    free(o);
}

static void a_report_of_a_sanitizer_is_noticed(void **state)
{
    (void)state;
    job_output *o = take("==7==ERROR: AddressSanitizer: heap-buffer-overflow\n");
    assert_true(o->sanitizer);
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_rank_is_named_with_its_host),
        cmocka_unit_test(a_rank_that_failed_without_a_word_is_named),
        cmocka_unit_test(the_ranks_own_error_goes_before_the_launchers_notice),
        cmocka_unit_test(hosts_that_cannot_be_reached_are_told),
        cmocka_unit_test(slurm_is_understood),
        cmocka_unit_test(the_unknown_is_quoted),
        cmocka_unit_test(log_lines_pass_and_talk_does_not),
        cmocka_unit_test(endless_talk_keeps_its_last_lines_only),
        cmocka_unit_test(a_report_of_a_sanitizer_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
