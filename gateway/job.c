/*
 * job.c - fork, exec, pidfd; and a walk over /proc to find what a killed launcher leaves.
 */
#include "gateway/job.h"

#include "common/check.h"
#include "common/clock.h"
#include "gateway/interrupts.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TERM_MS = 700, KILL_MS = 500, STUCK_MS = 1500, CHILDREN_MAX = 4096 };

struct job {
    pid_t launcher;
    int output_fd, exit_fd;
    bool ended;
    int wait_status;
    int64_t dead_since_ms; /* when all of the launcher's children were first seen dead; 0: not so */
    job_output *output;
};

static void set_environment(const word_list *l, bool over_the_users)
{
    for (size_t i = 0; i < l->n; i++) {
        char name[128];
        size_t n = strcspn(l->words[i], "=");
        snprintf(name, sizeof name, "%.*s", (int)n, l->words[i]);
        setenv(name, l->words[i] + n + 1, over_the_users);
    }
}

/* In the child: never returns. Writes errno to report_fd where exec fails. */
_Noreturn static void become_launcher(const job_command *c, pid_t parent, int output_fd,
                                      int report_fd)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) {
        _exit(1); /* it died before the line above */
    }
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    int null_fd = open("/dev/null", O_RDONLY);
    dup2(null_fd, STDIN_FILENO);
    dup2(output_fd, STDOUT_FILENO);
    dup2(output_fd, STDERR_FILENO);
    set_environment(&c->own_environment, true);
    set_environment(&c->default_environment, false);
    execvp(c->words.words[0], c->words.words);
    int cause = errno;
    if (write(report_fd, &cause, sizeof cause) < 0) {
        _exit(126);
    }
    _exit(127);
}

static flo_code exec_fault(const char *launcher, int cause, flo_err *err)
{
    if (cause != ENOENT) {
        return flo_fail(err, FLO_FAIL, "cannot run %s: %s", launcher, strerror(cause));
    }
    if (strcmp(launcher, "srun") == 0) {
        return flo_fail(err, FLO_FAIL,
                        "no srun on the PATH; install Slurm's client (apt-get install "
                        "slurm-client) or take the launcher mpirun");
    }
    return flo_fail(err, FLO_FAIL,
                    "no mpirun on the PATH; install Open MPI (apt-get install "
                    "openmpi-bin) or add its folder to PATH");
}

flo_code job_start(job **out, const job_command *c, job_output *output, flo_err *err)
{
    int pipe_fds[2], report_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return flo_fail(err, FLO_FAIL, "cannot make a pipe: %s", strerror(errno));
    }
    CHECK(pipe2(report_fds, O_CLOEXEC) == 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t self = getpid(), child = fork();
    if (child == 0) {
        become_launcher(c, self, pipe_fds[1], report_fds[1]);
    }
    int fork_error = errno;
    close(pipe_fds[1]);
    close(report_fds[1]);
    int cause = 0;
    if (child < 0) {
        cause = fork_error;
    } else if (read(report_fds[0], &cause, sizeof cause) > 0) {
        waitpid(child, NULL, 0);
    }
    close(report_fds[0]);
    if (cause != 0) {
        close(pipe_fds[0]);
        return exec_fault(c->words.words[0], cause, err);
    }
    job *j = calloc(1, sizeof *j);
    CHECK(j != NULL);
    *j = (job){.launcher = child, .output_fd = pipe_fds[0], .output = output};
    fcntl(j->output_fd, F_SETFL, O_NONBLOCK);
    j->exit_fd = pidfd_open(child, 0);
    CHECK(j->exit_fd >= 0);
    fcntl(j->exit_fd, F_SETFD, FD_CLOEXEC);
    *out = j;
    return FLO_OK;
}

int job_output_fd(const job *j)
{
    return j->output_fd;
}

int job_exit_fd(const job *j)
{
    return j->exit_fd;
}

bool job_read(job *j)
{
    char bytes[4096];
    while (j->output_fd >= 0) {
        ssize_t n = read(j->output_fd, bytes, sizeof bytes);
        if (n > 0) {
            job_output_take(j->output, bytes, (size_t)n);
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            return true;
        } else {
            job_output_end(j->output);
            close(j->output_fd);
            j->output_fd = -1;
        }
    }
    return false;
}

bool job_has_ended(job *j, int *wait_status)
{
    if (!j->ended && waitpid(j->launcher, &j->wait_status, WNOHANG) == j->launcher) {
        j->ended = true;
    }
    if (j->ended) {
        *wait_status = j->wait_status;
    }
    return j->ended;
}

bool job_wait(job *j, int wait_ms, bool interruptible)
{
    int64_t until = clock_ms() + wait_ms;
    int status;
    while (!job_has_ended(j, &status)) {
        int64_t left = until - clock_ms();
        if (left <= 0) {
            return false;
        }
        struct pollfd p[3] = {{.fd = j->exit_fd, .events = POLLIN},
                              {.fd = j->output_fd, .events = POLLIN},
                              {.fd = interruptible ? interrupts_fd() : -1, .events = POLLIN}};
        poll(p, 3, (int)left);
        if (p[1].revents != 0) {
            job_read(j);
        }
        if (p[2].revents != 0) {
            return job_has_ended(j, &status);
        }
    }
    job_read(j);
    return true;
}

/* State letter and parent of a process. The name in /proc/PID/stat may hold anything, so it is read
 * from its end. */
static bool read_stat(pid_t pid, char *state, pid_t *parent)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) {
        return false;
    }
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    return p != NULL && sscanf(p + 1, " %c %d", state, parent) == 2;
}

/* Parent of a process, or -1. */
static pid_t parent_of(pid_t pid)
{
    char state;
    pid_t parent;
    return read_stat(pid, &state, &parent) ? parent : -1;
}

/* True where the launcher has children and all of them are dead. */
static bool all_children_dead(pid_t launcher)
{
    DIR *d = opendir("/proc");
    size_t n = 0, n_dead = 0;
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        char state;
        pid_t parent;
        if (isdigit((unsigned char)e->d_name[0]) && read_stat(atoi(e->d_name), &state, &parent) &&
            parent == launcher) {
            n++;
            n_dead += state == 'Z' ? 1 : 0;
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    return n > 0 && n == n_dead;
}

bool job_is_stuck(job *j)
{
    if (j->ended || !all_children_dead(j->launcher)) {
        j->dead_since_ms = 0;
        return false;
    }
    int64_t now = clock_ms();
    j->dead_since_ms = j->dead_since_ms == 0 ? now : j->dead_since_ms;
    return now - j->dead_since_ms >= STUCK_MS;
}

typedef struct process {
    pid_t pid, parent;
    bool ours;
} process;

/* All processes that descend from this one; they are few, /proc is short. */
static size_t find_descendants(pid_t out[CHILDREN_MAX])
{
    DIR *d = opendir("/proc");
    process *all = NULL;
    size_t n = 0, n_ours = 0;
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        if (!isdigit((unsigned char)e->d_name[0])) {
            continue;
        }
        all = realloc(all, (n + 1) * sizeof *all);
        CHECK(all != NULL);
        pid_t pid = atoi(e->d_name);
        all[n++] = (process){pid, parent_of(pid), false};
    }
    if (d != NULL) {
        closedir(d);
    }
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < n; i++) {
            bool child = all[i].parent == getpid();
            for (size_t k = 0; k < n && !child; k++) {
                child = all[k].ours && all[k].pid == all[i].parent;
            }
            if (child && !all[i].ours) {
                all[i].ours = more = true;
            }
        }
    }
    for (size_t i = 0; i < n && n_ours < CHILDREN_MAX; i++) {
        if (all[i].ours) {
            out[n_ours++] = all[i].pid;
        }
    }
    free(all);
    return n_ours;
}

/* KILL to all descendants until none is left, KILL_MS at most (a process may hang in the kernel).
 */
static void kill_what_is_left(job *j)
{
    static pid_t left[CHILDREN_MAX];
    int64_t until = clock_ms() + KILL_MS;
    do {
        size_t n = find_descendants(left);
        for (size_t i = 0; i < n; i++) {
            kill(left[i], SIGKILL);
        }
        int status;
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
            if (pid == j->launcher && !j->ended) {
                j->ended = true;
                j->wait_status = status;
            }
        }
        if (n == 0) {
            break;
        }
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    } while (clock_ms() < until);
}

void job_end(job *j, int *wait_status)
{
    int status;
    if (!job_has_ended(j, &status)) {
        kill(j->launcher, SIGTERM);
        job_wait(j, TERM_MS, false);
    }
    kill_what_is_left(j);
    job_read(j);
    if (j->output_fd >= 0) {
        job_output_end(j->output);
        close(j->output_fd);
    }
    close(j->exit_fd);
    if (wait_status != NULL) {
        *wait_status = j->wait_status;
    }
    free(j);
}
