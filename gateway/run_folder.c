/*
 * run_folder.c - made by mkdtemp, held by flock, removed by a walk that follows no links.
 */
#include "gateway/run_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FOLDER_LEAD "flotilla-run-"
enum { YOUNG_SECONDS = 60 }; /* a folder may stand unlocked for a moment after it was made */

static int remove_entry(const char *path, const struct stat *s, int type, struct FTW *place)
{
    (void)s, (void)type, (void)place;
    remove(path);
    return 0;
}

static void remove_tree(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* The folder's lock, or -1 where somebody else holds it. */
static int lock_of(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void remove_if_left_behind(const char *path)
{
    struct stat s;
    if (lstat(path, &s) != 0 || !S_ISDIR(s.st_mode) || s.st_uid != geteuid() ||
        s.st_mtime + YOUNG_SECONDS > time(NULL)) {
        return;
    }
    int lock = lock_of(path);
    if (lock >= 0) {
        remove_tree(path);
        close(lock);
    }
}

static void remove_left_behind(const char *parent)
{
    DIR *d = opendir(parent);
    if (d == NULL) {
        return;
    }
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char path[PATH_MAX];
        if (strncmp(e->d_name, FOLDER_LEAD, strlen(FOLDER_LEAD)) == 0 &&
            snprintf(path, sizeof path, "%s/%s", parent, e->d_name) < (int)sizeof path) {
            remove_if_left_behind(path);
        }
    }
    closedir(d);
}

/* False, with errno, where no folder could be made under parent. */
static int make_under(char path[RUN_FOLDER_PATH_BYTES], const char *parent)
{
    int n = snprintf(path, RUN_FOLDER_PATH_BYTES, "%s/" FOLDER_LEAD "XXXXXX", parent);
    if (n >= RUN_FOLDER_PATH_BYTES) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return mkdtemp(path) == NULL ? -1 : lock_of(path);
}

flo_code run_folder_open(run_folder *f, flo_err *err)
{
    /* a TMPDIR that is not there, or too deep for a socket's path, is passed over */
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] != '/' || strlen(parent) + 24 > RUN_FOLDER_PATH_BYTES ||
        access(parent, W_OK | X_OK) != 0) {
        parent = "/tmp";
    }
    remove_left_behind(parent);
    remove_left_behind("/dev/shm");
    f->lock = make_under(f->path, parent);
    if (f->lock < 0) {
        return flo_fail(err, FLO_FAIL, "%s: cannot make a folder for the job: %s", parent,
                        strerror(errno));
    }
    f->memory_lock = make_under(f->memory, "/dev/shm");
    if (f->memory_lock < 0) {
        f->memory[0] = '\0';
    }
    return FLO_OK;
}

void run_folder_close(run_folder *f)
{
    remove_tree(f->path);
    close(f->lock);
    if (f->memory[0] != '\0') {
        remove_tree(f->memory);
        close(f->memory_lock);
    }
}
