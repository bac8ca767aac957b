/*
 * job_command.c - invocations of mpirun and srun, with the settings that were found to matter.
 *
 * Settings travel as environment variables of Open MPI, which reach ranks under either launcher and
 * give way to what the user has set. Their reasons:
 *   - root may start ranks (a container often has no other user);
 *   - on one machine nothing listens outside the loopback interface, and shared-memory files lie in
 * a folder that is removed with the job;
 *   - between hosts a cut link is noticed within seconds instead of never (keepalive);
 *   - messages of a few KiB over shared memory go at once (3.4 us become 0.9);
 *   - when one rank is lost the others are killed at once (0.3 s) instead of after a second.
 */
#include "gateway/job_command.h"

#include "common/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

bool job_is_local(const cluster *hosts)
{
    for (int32_t i = 0; i < hosts->n_hosts; i++) {
        if (hosts->hosts[i].n_workers > 0 && !cluster_host_is_local(hosts->hosts[i].name)) {
            return false;
        }
    }
    return true;
}

static void add_environment(job_command *c, const job_request *r)
{
    word_list_addf(&c->own_environment, "FLOTILLA_GATEWAY=%s", r->socket);
    word_list_addf(&c->own_environment, "FLOTILLA_GATEWAY_TOKEN=%s", r->token);

    word_list *d = &c->default_environment;
    if (geteuid() == 0) {
        word_list_add(d, "OMPI_ALLOW_RUN_AS_ROOT=1");
        word_list_add(d, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
    }
    /* vader is called sm in Open MPI 5 */
    word_list_add(d, "OMPI_MCA_btl_vader_eager_limit=65536");
    word_list_add(d, "OMPI_MCA_btl_vader_max_send_size=131072");
    word_list_add(d, "OMPI_MCA_btl_sm_eager_limit=65536");
    word_list_add(d, "OMPI_MCA_btl_sm_max_send_size=131072");
    word_list_add(d, "OMPI_MCA_odls_base_sigkill_timeout=0");
    if (job_is_local(r->hosts)) {
        word_list_addf(d, "OMPI_MCA_orte_tmpdir_base=%s", r->run_folder);
        word_list_add(d, "OMPI_MCA_oob_tcp_if_include=lo");
        word_list_add(d, "OMPI_MCA_btl_tcp_if_include=lo");
        if (r->memory_folder[0] != '\0') {
            word_list_addf(d, "OMPI_MCA_btl_vader_backing_directory=%s", r->memory_folder);
            word_list_addf(d, "OMPI_MCA_btl_sm_backing_directory=%s", r->memory_folder);
        }
        return;
    }
    word_list_add(d, "OMPI_MCA_oob_tcp_keepalive_time=2");
    word_list_add(d, "OMPI_MCA_oob_tcp_keepalive_intvl=1");
    word_list_add(d, "OMPI_MCA_oob_tcp_keepalive_probes=3");
    if (r->interface != NULL && r->interface[0] != '\0') {
        word_list_addf(&c->own_environment, "OMPI_MCA_oob_tcp_if_include=%s", r->interface);
        word_list_addf(&c->own_environment, "OMPI_MCA_btl_tcp_if_include=%s", r->interface);
    }
}

/* mpirun hands only its own variables to other hosts; ours that steer ranks go by name. */
static void add_exports(word_list *w)
{
    for (char **e = environ; *e != NULL; e++) {
        size_t n = strcspn(*e, "=");
        if (strncmp(*e, "FLOTILLA_", 9) == 0 && strncmp(*e, "FLOTILLA_GATEWAY", 16) != 0) {
            word_list_add(w, "-x");
            word_list_addf(w, "%.*s", (int)n, *e);
        }
    }
}

/* The name under which the cluster knows this machine, else its own. */
static void this_host(char name[256], const cluster *hosts)
{
    for (int32_t i = 0; i < hosts->n_hosts; i++) {
        if (cluster_host_is_local(hosts->hosts[i].name)) {
            snprintf(name, 256, "%s", hosts->hosts[i].name);
            return;
        }
    }
    if (gethostname(name, 256) != 0) {
        snprintf(name, 256, "localhost");
    }
}

static void make_mpirun(job_command *c, const job_request *r)
{
    word_list *w = &c->words;
    bool local = job_is_local(r->hosts);
    char here[256];
    this_host(here, r->hosts);
    word_list_add(w, "mpirun");
    word_list_add(w, "--oversubscribe");
    word_list_add(w, "--bind-to");
    word_list_add(w, "none");
    if (!local) {
        add_exports(w);
    }
    word_list_add(w, "-np");
    word_list_add(w, "1");
    if (!local) {
        word_list_add(w, "--host");
        word_list_addf(w, "%s:1", here);
    }
    word_list_addf(w, "%s/flotilla-coordinator", r->programs);
    for (size_t i = 0; i < r->options->n; i++) {
        word_list_add(w, r->options->words[i]);
    }
    for (int32_t i = 0; i < r->hosts->n_hosts; i++) {
        const cluster_host *h = &r->hosts->hosts[i];
        if (h->n_workers == 0) {
            continue;
        }
        word_list_add(w, ":");
        word_list_add(w, "-np");
        word_list_addf(w, "%d", h->n_workers);
        if (!local) {
            word_list_add(w, "--host");
            word_list_addf(w, "%s:%d", h->name, h->n_workers);
        }
        word_list_addf(w, "%s/flotilla-worker", r->programs);
    }
}

/* A word for a POSIX shell. */
static void put_quoted(FILE *f, const char *word)
{
    fputc('\'', f);
    for (const char *p = word; *p != '\0'; p++) {
        if (*p == '\'') {
            fputs("'\\''", f);
        } else {
            fputc(*p, f);
        }
    }
    fputc('\'', f);
}

/* The multi-prog file replaces % in arguments and splits at blanks; the script behind it does not.
 */
static char *script_of(const job_request *r)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    CHECK(f != NULL);
    fputs("#!/bin/sh\nexec ", f);
    char *program = NULL;
    CHECK(asprintf(&program, "%s/flotilla-coordinator", r->programs) >= 0);
    put_quoted(f, program);
    free(program);
    for (size_t i = 0; i < r->options->n; i++) {
        fputc(' ', f);
        put_quoted(f, r->options->words[i]);
    }
    fputc('\n', f);
    CHECK(fclose(f) == 0);
    return text;
}

static char *host_list_of(const job_request *r)
{
    char *text = NULL, here[256];
    size_t n;
    FILE *f = open_memstream(&text, &n);
    CHECK(f != NULL);
    const char *node = getenv("SLURMD_NODENAME");
    this_host(here, r->hosts);
    fprintf(f, "%s\n", node != NULL ? node : here);
    for (int32_t i = 0; i < r->hosts->n_hosts; i++) {
        for (int32_t k = 0; k < r->hosts->hosts[i].n_workers; k++) {
            fprintf(f, "%s\n", r->hosts->hosts[i].name);
        }
    }
    CHECK(fclose(f) == 0);
    return text;
}

static void make_srun(job_command *c, const job_request *r)
{
    word_list *w = &c->words;
    int32_t n_workers = cluster_workers(r->hosts);
    c->coordinator_script = script_of(r);
    CHECK(asprintf(&c->multi_prog, "0 /bin/sh %s/coordinator.sh\n1-%d %s/flotilla-worker\n",
                   r->run_folder, n_workers, r->programs) >= 0);
    word_list_add(w, "srun");
    word_list_add(w, "--mpi=pmix");
    word_list_add(w, "--kill-on-bad-exit=1");
    word_list_add(w, "--overcommit");
    word_list_add(w, "--cpu-bind=none");
    word_list_add(w, "--input=none");
    word_list_addf(w, "--ntasks=%d", n_workers + 1);
    if (r->hosts_given) {
        c->host_list = host_list_of(r);
        word_list_addf(&c->own_environment, "SLURM_HOSTFILE=%s/hosts", r->run_folder);
        word_list_add(w, "--distribution=arbitrary");
    }
    word_list_add(w, "--multi-prog");
    word_list_addf(w, "%s/ranks.conf", r->run_folder);
}

void job_command_make(job_command *c, const job_request *r)
{
    *c = (job_command){0};
    add_environment(c, r);
    if (strcmp(r->launcher, "srun") == 0) {
        make_srun(c, r);
    } else {
        make_mpirun(c, r);
    }
}

void job_command_free(job_command *c)
{
    word_list_free(&c->words);
    word_list_free(&c->own_environment);
    word_list_free(&c->default_environment);
    free(c->multi_prog);
    free(c->coordinator_script);
    free(c->host_list);
}
