/*
 * main.c - rank 0: the text commands that need no job, and the job.
 *
 *     flotilla-coordinator tokenize | detokenize | template ...      no MPI
 *     mpirun -np 1 flotilla-coordinator [options] (--requests F [--output F] | --prompt TEXT)
 *            : -np N flotilla-worker
 *
 * Started by a gateway (FLOTILLA_GATEWAY in the environment) it takes requests from its socket.
 */
#include "common/json.h"
#include "common/log.h"
#include "coordinator/commands.h"
#include "coordinator/job.h"
#include "coordinator/serve.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_PAYLOAD_BYTES = 1 << 16 };

typedef struct own_options { /* of the plain mpirun form */
    const char *requests, *output, *prompt;
} own_options;

static void print_help(void)
{
    printf("flotilla-coordinator %s: rank 0 of a Flotilla job\n\n"
           "  mpirun -np 1 flotilla-coordinator [options] --requests in.jsonl [--output out.jsonl] "
           "\\\n"
           "       : -np N flotilla-worker\n"
           "  mpirun -np 1 flotilla-coordinator [options] --prompt TEXT : -np N flotilla-worker\n\n"
           "  --requests F   a JSONL file of {\"custom_id\": \"a\", \"body\": {...}} lines, the "
           "body a chat\n"
           "                 completion's or {\"prompt_ids\": [...]}; - is standard input\n"
           "  --output F     answers, one line each in the OpenAI batch form (standard output)\n"
           "  --prompt TEXT  one user message; the answer goes to standard output\n\n"
           "The other options are those of `flotilla generate --help`. People start Flotilla with "
           "the\n"
           "`flotilla` command; this form is for job scripts of their own.\n",
           FLOTILLA_VERSION);
}

static flo_code read_options(job *j, own_options *own, int argc, char **argv, flo_err *err)
{
    const argument table[] = {{.name = "--requests", .kind = ARGUMENT_TEXT, .out = &own->requests},
                              {.name = "--output", .kind = ARGUMENT_TEXT, .out = &own->output},
                              {.name = "--prompt", .kind = ARGUMENT_TEXT, .out = &own->prompt}};
    const size_t n = sizeof table / sizeof table[0];
    flo_code code = options_read(&j->options, table, n, NULL, argc, argv, err);
    if (code != FLO_OK) {
        return code;
    }
    options_set_log(&j->options);
    return options_check(&j->options, err);
}

/* {"messages": [{"role": "user", "content": TEXT}]} */
static flo_code serve_prompt(job *j, const char *text, flo_err *err)
{
    buffer b = {0};
    buffer_append_text(&b, "{\"messages\": [{\"role\": \"user\", \"content\": ");
    json_put_string(&b, text, strlen(text));
    buffer_append_text(&b, "}]}");
    flo_code code = b.failed ? flo_fail(err, FLO_FAIL, "out of memory for the prompt")
                             : serve_one(j, b.at, b.n, j->options.json, err);
    buffer_free(&b);
    return code;
}

/* What is to be answered, found wrong before anything is loaded. */
static flo_code check_own(const own_options *own, flo_err *err)
{
    if ((own->requests != NULL) == (own->prompt != NULL)) {
        return flo_fail(
            err, FLO_USAGE, "say what to answer: %s --requests FILE.jsonl or --prompt TEXT%s",
            own->prompt != NULL ? "either" : "by", own->prompt != NULL ? ", not both" : "");
    }
    if (own->output != NULL && own->requests == NULL) {
        return flo_fail(err, FLO_USAGE,
                        "--output goes with --requests; an answer to --prompt "
                        "goes to standard output");
    }
    if (own->prompt != NULL && own->prompt[0] == '\0') {
        return flo_fail(err, FLO_USAGE, "the prompt is empty; give at least one character");
    }
    return FLO_OK;
}

static flo_code run_job(job *j, const own_options *own, flo_err *err)
{
    batch_files files = {0};
    flo_code code = j->link == NULL ? check_own(own, err) : FLO_OK;
    if (code == FLO_OK && own->requests != NULL) {
        code = batch_files_open(&files, own->requests, own->output, err);
    }
    if (code == FLO_OK) {
        code = job_start(j, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    if (j->link != NULL) {
        gateway_link_ready(j->link, "", j->load_s);
        return serve_gateway(j, err);
    }
    return own->requests != NULL ? serve_file(j, &files, err) : serve_prompt(j, own->prompt, err);
}

/* The job cannot go on: one sentence, then all ranks end. */
static void fail_job(job *j, flo_code code, const flo_err *err)
{
    if (j->link != NULL) {
        gateway_link_fault(j->link, code, err->text);
        gateway_link_close(j->link);
    } else {
        log_error("%s", err->text);
    }
    MPI_Abort(MPI_COMM_WORLD, code);
}

static flo_code run_mpi(int argc, char **argv)
{
    int granted, rank;
    own_options own = {0};
    flo_err err = {""};
    job *j = calloc(1, sizeof *j);
    if (j == NULL) {
        log_error("out of memory at the start");
        return FLO_FAIL;
    }
    signal(SIGPIPE, SIG_IGN);
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &granted);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    flo_code code = rank == 0
                        ? FLO_OK
                        : flo_fail(&err, FLO_USAGE, "flotilla-coordinator must be rank 0, and one");
    if (code == FLO_OK) {
        code = gateway_link_open(&j->link, &err);
    }
    if (code == FLO_OK) {
        code = read_options(j, &own, argc, argv, &err);
    }
    if (code == FLO_OK) {
        code = transport_new(&j->transport, MPI_COMM_WORLD, FIRST_PAYLOAD_BYTES, &err);
    }
    if (code == FLO_OK) {
        code = run_job(j, &own, &err);
    }
    if (code != FLO_OK) {
        fail_job(j, code, &err);
        return code;
    }
    gateway_link_close(j->link);
    job_stop(j);
    transport_free(j->transport);
    free(j);
    MPI_Finalize();
    return FLO_OK;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        flo_code (*run)(int argc, char **argv, flo_err *err);
    } commands[] = {{"tokenize", command_tokenize},
                    {"detokenize", command_detokenize},
                    {"template", command_template}};
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        print_help();
        return FLO_OK;
    }
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            flo_err err = {""};
            flo_code code = commands[i].run(argc - 1, argv + 1, &err);
            if (code != FLO_OK) {
                log_error("%s", err.text);
            }
            return code;
        }
    }
    return run_mpi(argc, argv);
}
