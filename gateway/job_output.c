/*
 * job_output.c - lines into log lines, errors and talk; talk into one sentence.
 *
 * The notices looked for are those of Open MPI 4.1 and 5 and of Slurm's srun; whatever is not
 * recognised still gives the launcher's exit status and its first own line.
 */
#include "gateway/job_output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static const char lead[] = "flotilla: ";

/* Level of a log line, and where its text begins behind "flotilla: [rank N: ][level: ]". */
static log_level level_of(const char *line, int *rank, const char **text)
{
    const char *p = line + strlen(lead);
    int used = 0;
    *rank = 0;
    if (sscanf(p, "rank %d: %n", rank, &used) == 1 && used > 0) {
        p += used;
    } else {
        *rank = 0;
    }
    static const struct {
        const char *word;
        log_level level;
    } levels[] = {{"error: ", LOG_ERROR},
                  {"warn: ", LOG_WARN},
                  {"debug: ", LOG_DEBUG},
                  {"trace: ", LOG_TRACE}};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strncmp(p, levels[i].word, strlen(levels[i].word)) == 0) {
            *text = p + strlen(levels[i].word);
            return levels[i].level;
        }
    }
    *text = p;
    return LOG_INFO;
}

static void keep_error(job_output *o, int rank, const char *text)
{
    if (o->first_error[0] != '\0') {
        return;
    }
    if (rank > 0) {
        snprintf(o->first_error, sizeof o->first_error, "worker rank %d: %s", rank, text);
    } else {
        snprintf(o->first_error, sizeof o->first_error, "%s", text);
    }
}

static void take_line(job_output *o, const char *line)
{
    if (strncmp(line, lead, strlen(lead)) == 0) {
        int rank;
        const char *text;
        log_level level = level_of(line, &rank, &text);
        if (level == LOG_ERROR) {
            keep_error(o, rank, text);
        }
        if (level <= log_get_level() && (level != LOG_ERROR || o->verbose)) {
            o->show(o->arg, line);
        }
        return;
    }
    char *kept = o->talk[o->n_talk++ % TALK_LINES];
    size_t n = strnlen(line, TALK_LINE_BYTES - 1);
    memcpy(kept, line, n);
    kept[n] = '\0';
    if (strstr(line, "Sanitizer") != NULL || strstr(line, "runtime error: ") != NULL) {
        o->sanitizer = true;
    }
    if (o->verbose) {
        o->show(o->arg, line);
    }
}

void job_output_take(job_output *o, const char *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        if (bytes[i] == '\n' || o->line_bytes + 1 == sizeof o->line) {
            o->line[o->line_bytes] = '\0';
            o->line_bytes = 0;
            take_line(o, o->line);
        }
        if (bytes[i] != '\n' && bytes[i] != '\0') {
            o->line[o->line_bytes++] = bytes[i];
        }
    }
}

void job_output_end(job_output *o)
{
    if (o->line_bytes > 0) {
        job_output_take(o, "\n", 1);
    }
}

static size_t first_kept(const job_output *o)
{
    return o->n_talk > TALK_LINES ? o->n_talk - TALK_LINES : 0;
}

void job_output_show_talk(const job_output *o)
{
    for (size_t i = first_kept(o); i < o->n_talk; i++) {
        o->show(o->arg, o->talk[i % TALK_LINES]);
    }
}

/* The first kept line with word in it, from the word on; NULL: none. */
static const char *find(const job_output *o, const char *word)
{
    for (size_t i = first_kept(o); i < o->n_talk; i++) {
        const char *p = strstr(o->talk[i % TALK_LINES], word);
        if (p != NULL) {
            return p;
        }
    }
    return NULL;
}

static const char *rank_name(char out[32], int rank)
{
    if (rank == 0) {
        return "the coordinator (rank 0)";
    }
    snprintf(out, 32, "worker rank %d", rank);
    return out;
}

/* mpirun: "process rank 2 with PID 0 on node vm exited on signal 9 (Killed)." */
static bool killed_rank(const job_output *o, flo_err *err)
{
    const char *p = find(o, "process rank ");
    int rank, signal_number;
    char node[256], cause[64] = "", name[32];
    if (p == NULL ||
        sscanf(p, "process rank %d with PID %*d on node %255s exited on signal %d (%63[^)]", &rank,
               node, &signal_number, cause) < 3) {
        return false;
    }
    flo_fail(err, FLO_FAIL, "%s on host %s was killed by signal %d (%s)", rank_name(name, rank),
             node, signal_number, cause);
    return true;
}

/* mpirun: "Process name: [[23924,1],2]" and "Exit code: 7" */
static bool failed_rank(const job_output *o, flo_err *err)
{
    const char *p = find(o, "Process name: [["), *q = find(o, "Exit code:");
    int rank, status;
    char name[32];
    if (p == NULL || q == NULL || sscanf(p, "Process name: [[%*d,%*d],%d]", &rank) != 1 ||
        sscanf(q, "Exit code: %d", &status) != 1) {
        return false;
    }
    flo_fail(err, FLO_FAIL, "%s ended with exit status %d and gave no reason",
             rank_name(name, rank), status);
    return true;
}

/* srun: "srun: error: n2: task 2: Killed", "... task 2: Exited with exit code 7" */
static bool srun_rank(const job_output *o, flo_err *err)
{
    const char *p = find(o, "srun: error: ");
    int rank;
    char node[256], fate[128], name[32];
    while (p != NULL) {
        if (sscanf(p, "srun: error: %255[^:]: task %d: %127[^\n]", node, &rank, fate) == 3) {
            flo_fail(err, FLO_FAIL, "%s on host %s: %s", rank_name(name, rank), node, fate);
            return true;
        }
        flo_fail(err, FLO_FAIL, "srun: %s", p + strlen("srun: error: "));
        return true;
    }
    return false;
}

/* What keeps a job from starting. */
static bool start_fault(const job_output *o, flo_err *err)
{
    static const struct {
        const char *word, *advice;
    } faults[] = {
        {"ssh: ", "a host cannot be reached"},
        {"Permission denied", "a host cannot be reached (mpirun needs ssh without a password)"},
        {"Host key verification failed", "a host cannot be reached (log in by ssh once before)"},
        {"lost communication", "the connection to a host was lost"},
        {"unable to reliably start", "a host cannot be reached, or the connection to it was lost"},
        {"not enough slots", "mpirun sees too few slots"},
        {"root is an extremely bad idea", "mpirun does not start as root"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        const char *p = find(o, faults[i].word);
        if (p != NULL) {
            flo_fail(err, FLO_FAIL, "%s: %s", faults[i].advice, p);
            return true;
        }
    }
    const char *program = find(o, "Executable: "), *node = find(o, "Node: ");
    if (program != NULL && node != NULL) {
        flo_fail(err, FLO_FAIL,
                 "host %s cannot run %s; install Flotilla at the same place on every host",
                 node + strlen("Node: "), program + strlen("Executable: "));
        return true;
    }
    return false;
}

/* The first line that is no rule of dashes and no empty one; "" where there is none. */
static const char *first_own_line(const job_output *o)
{
    for (size_t i = first_kept(o); i < o->n_talk; i++) {
        const char *line = o->talk[i % TALK_LINES];
        if (strspn(line, "- \t") != strlen(line)) {
            return line;
        }
    }
    return "";
}

flo_code job_output_explain(const job_output *o, const char *launcher, int wait_status,
                            flo_err *err)
{
    int status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 0;
    if (o->first_error[0] != '\0') {
        flo_code code = status == FLO_USAGE || status == FLO_DIFFERS ? (flo_code)status : FLO_FAIL;
        return flo_fail(err, code, "%s", o->first_error);
    }
    if (killed_rank(o, err) || failed_rank(o, err) || start_fault(o, err) || srun_rank(o, err)) {
        return FLO_FAIL;
    }
    const char *line = first_own_line(o);
    const char *between = line[0] != '\0' ? ": " : "";
    if (WIFSIGNALED(wait_status)) {
        return flo_fail(err, FLO_FAIL, "%s was killed by signal %d (%s)%s%s", launcher,
                        WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)), between, line);
    }
    return flo_fail(err, FLO_FAIL, "%s ended with exit status %d%s%s (--verbose shows all it said)",
                    launcher, status, between, line);
}
