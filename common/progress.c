/*
 * progress.c - bars by ANSI cursor movement: up as many lines as were drawn, then each line anew.
 */
#include "common/progress.h"
#include "common/clock.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR_CELLS = 20, PROGRESS_WHAT_BYTES = 128 };

typedef struct worker_progress {
    int32_t rank;
    char name[80]; /* "worker 2 on b" */
    uint64_t done, total;
} worker_progress;

struct progress {
    int fd;
    bool quiet, terminal, ended;
    int64_t started_ms, shown_ms;
    int n_drawn; /* lines now on the terminal, above the cursor */
    bool under;  /* one line is, and it is under the cursor */
    size_t n;
    worker_progress *workers; /* by rank */
    struct {
        bool on;
        char what[PROGRESS_WHAT_BYTES];
        double share;
        int64_t first_ms; /* since when somebody waits */
        int64_t began_ms; /* since when for this */
    } stage;
    struct {
        bool on, under, news; /* under: under text; news: not shown yet */
        double seconds;
        int64_t first_ms; /* since when nothing else was to be seen */
    } sound;
};

progress *progress_new(int fd, bool quiet)
{
    progress *p = calloc(1, sizeof *p);
    CHECK(p != NULL);
    const char *kind = getenv("TERM");
    p->fd = fd;
    p->quiet = quiet;
    p->terminal = isatty(fd) == 1 && (kind == NULL || strcmp(kind, "dumb") != 0);
    p->started_ms = clock_ms();
    p->shown_ms = p->terminal ? 0 : p->started_ms;
    return p;
}

static void put(const progress *p, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t k = write(p->fd, text, n);
        if (k <= 0) {
            return; /* nowhere left to show it */
        }
        text += k;
        n -= (size_t)k;
    }
}

/* The cursor stays where it is, also in the middle of a line (ESC 7 and 8 keep and restore it). */
static const char wipe_under[] = "\0337\033[B\r\033[2K\0338";

static void wipe(progress *p)
{
    if (p->under) {
        put(p, wipe_under, sizeof wipe_under - 1);
        p->under = false;
    }
    if (p->n_drawn > 0) {
        char text[32];
        int n = snprintf(text, sizeof text, "\033[%dA\033[J", p->n_drawn);
        put(p, text, (size_t)n);
        p->n_drawn = 0;
    }
}

void progress_free(progress *p)
{
    if (p != NULL) {
        progress_end(p);
        free(p->workers);
        free(p);
    }
}

static worker_progress *worker_of(progress *p, int32_t rank, const char *host)
{
    size_t i = 0;
    while (i < p->n && p->workers[i].rank < rank) {
        i++;
    }
    if (i == p->n || p->workers[i].rank != rank) {
        p->workers = realloc(p->workers, (p->n + 1) * sizeof *p->workers);
        CHECK(p->workers != NULL);
        memmove(p->workers + i + 1, p->workers + i, (p->n - i) * sizeof *p->workers);
        p->n++;
        p->workers[i] = (worker_progress){.rank = rank};
        snprintf(p->workers[i].name, sizeof p->workers[i].name, "worker %d%s%.40s", rank,
                 host[0] != '\0' ? " on " : "", host);
    }
    return &p->workers[i];
}

static void put_end(char out[PROGRESS_WIDTH_MAX], size_t *used, size_t width, const char *text)
{
    size_t n = strlen(text);
    if (*used + n <= width) {
        memcpy(out + *used, text, n + 1);
        *used += n;
    }
}

static void put_bar(char out[PROGRESS_WIDTH_MAX], size_t *used, size_t width, double part)
{
    char cells[BAR_CELLS + 1], text[BAR_CELLS + 8];
    memset(cells, '-', BAR_CELLS);
    memset(cells, '#', (size_t)(part * BAR_CELLS));
    cells[BAR_CELLS] = '\0';
    snprintf(text, sizeof text, "  [%s]", cells);
    put_end(out, used, width, text);
}

static void put_seconds_left(char out[PROGRESS_WIDTH_MAX], size_t *used, size_t width, double left)
{
    char text[64];
    snprintf(text, sizeof text, left < 120 ? "  %.0f s left" : "  %.0f min left",
             left < 120 ? left : left / 60);
    put_end(out, used, width, text);
}

void progress_bar(char out[PROGRESS_WIDTH_MAX], size_t width, const char *name, uint64_t bytes_done,
                  uint64_t bytes_total, double seconds)
{
    double part = bytes_total > 0 ? (double)bytes_done / (double)bytes_total : 0;
    part = part > 1 ? 1 : part;
    double rate = seconds > 0.05 ? (double)bytes_done / seconds : 0;
    char text[128], done[BYTES_TEXT_MAX], total[BYTES_TEXT_MAX], per_s[BYTES_TEXT_MAX];
    size_t used = 0;
    width = width < PROGRESS_WIDTH_MAX ? width : PROGRESS_WIDTH_MAX - 1;
    snprintf(text, sizeof text, "%.*s", (int)width, name);
    out[0] = '\0';
    put_end(out, &used, width, text);
    if (width >= strlen(name) + BAR_CELLS + 56) {
        put_bar(out, &used, width, part);
    }
    snprintf(text, sizeof text, "  %3.0f %%", 100 * part);
    put_end(out, &used, width, text);
    snprintf(text, sizeof text, "  %s of %s", bytes_print(done, bytes_done),
             bytes_print(total, bytes_total));
    put_end(out, &used, width, text);
    if (rate > 0) {
        snprintf(text, sizeof text, "  %s/s", bytes_print(per_s, (uint64_t)rate));
        put_end(out, &used, width, text);
    }
    if (rate > 0 && bytes_done < bytes_total) {
        put_seconds_left(out, &used, width, (double)(bytes_total - bytes_done) / rate);
    }
}

void progress_stage_bar(char out[PROGRESS_WIDTH_MAX], size_t width, const char *what, double share,
                        double seconds)
{
    char text[PROGRESS_WIDTH_MAX];
    size_t used = 0;
    width = width < PROGRESS_WIDTH_MAX ? width : PROGRESS_WIDTH_MAX - 1;
    share = share >= 0 ? share : 0; /* also where it is no number */
    share = share <= 1 ? share : 1;
    size_t n = strlen(what);
    n = utf8_good_bytes(what, n < width ? n : width);
    snprintf(text, sizeof text, "%.*s", (int)n, what);
    out[0] = '\0';
    put_end(out, &used, width, text);
    if (width >= n + BAR_CELLS + 24) {
        put_bar(out, &used, width, share);
    }
    snprintf(text, sizeof text, "  %3d %%", (int)(100 * share)); /* 100 only when it is over */
    put_end(out, &used, width, text);
    if (share > 0.01 && share < 1) {
        put_seconds_left(out, &used, width, ceil(seconds * (1 - share) / share));
    }
}

static uint64_t sum(const progress *p, uint64_t *total)
{
    uint64_t done = 0;
    *total = 0;
    for (size_t i = 0; i < p->n; i++) {
        done += p->workers[i].done;
        *total += p->workers[i].total;
    }
    return done;
}

static void put_all_line(progress *p, size_t width, double seconds)
{
    char name[64], line[PROGRESS_WIDTH_MAX];
    uint64_t total, done = sum(p, &total);
    snprintf(name, sizeof name, "%zu worker%s loading", p->n, p->n == 1 ? "" : "s");
    progress_bar(line, width, name, done, total, seconds);
    put(p, line, strlen(line));
    put(p, "\n", 1);
}

static size_t columns_of(const progress *p)
{
    struct winsize size;
    return ioctl(p->fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col - 1u : 79;
}

static void draw(progress *p, double seconds)
{
    size_t width = columns_of(p);
    wipe(p);
    if (p->n > PROGRESS_BARS_MAX) {
        put_all_line(p, width, seconds);
        p->n_drawn = 1;
        return;
    }
    for (size_t i = 0; i < p->n; i++) {
        char line[PROGRESS_WIDTH_MAX];
        progress_bar(line, width, p->workers[i].name, p->workers[i].done, p->workers[i].total,
                     seconds);
        put(p, line, strlen(line));
        put(p, "\n", 1);
    }
    p->n_drawn = (int)p->n;
}

void progress_update(progress *p, int32_t rank, const char *host, uint64_t bytes_done,
                     uint64_t bytes_total)
{
    worker_progress *w = worker_of(p, rank, host);
    w->done = bytes_done;
    w->total = bytes_total;
    int64_t now = clock_ms();
    if (p->quiet || p->ended ||
        now - p->shown_ms < (p->terminal ? PROGRESS_DRAW_MS : PROGRESS_LINE_MS)) {
        return;
    }
    p->shown_ms = now;
    double seconds = (double)(now - p->started_ms) / 1000;
    if (p->terminal) {
        draw(p, seconds);
    } else {
        put(p, "flotilla: ", 10);
        put_all_line(p, 100, seconds);
    }
}

void progress_log(progress *p, const char *line)
{
    wipe(p); /* the next update draws the bars again below */
    put(p, line, strlen(line));
    put(p, "\n", 1);
}

/* -- a stage ----------------------------------------------------------------------------------- */

/* Names of files stand in it: cut to whole characters, and nothing that moves a cursor. */
static void set_what(progress *p, const char *what)
{
    size_t n = strnlen(what, sizeof p->stage.what - 1);
    n = utf8_good_bytes(what, n);
    memcpy(p->stage.what, what, n);
    p->stage.what[n] = '\0';
    for (char *c = p->stage.what; *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x20 || *c == 0x7f ? ' ' : *c;
    }
}

static bool is_time(const progress *p, int64_t now)
{
    return now - p->shown_ms >= (p->terminal ? PROGRESS_DRAW_MS : PROGRESS_LINE_MS);
}

/* A line that the next one takes the place of, on a terminal. */
static void draw_line(progress *p, const char *line)
{
    wipe(p);
    put(p, p->terminal ? "" : "flotilla: ", p->terminal ? 0 : 10);
    put(p, line, strlen(line));
    put(p, "\n", 1);
    p->n_drawn = p->terminal ? 1 : 0;
}

void progress_stage(progress *p, const char *what, double share)
{
    char before[PROGRESS_WHAT_BYTES];
    int64_t now = clock_ms();
    if (share >= 1) {
        progress_stage_end(p);
        return;
    }
    memcpy(before, p->stage.what, sizeof before);
    set_what(p, what);
    if (!p->stage.on) {
        p->stage.first_ms = now;
        p->shown_ms = p->terminal ? 0 : now;
    }
    if (!p->stage.on || share < p->stage.share || strcmp(before, p->stage.what) != 0) {
        p->stage.began_ms = now;
    }
    p->stage.on = true;
    p->stage.share = share;
    progress_stage_draw(p);
}

static void stage_draw(progress *p)
{
    int64_t now = clock_ms();
    if (!p->stage.on || now - p->stage.first_ms < PROGRESS_STAGE_MS || !is_time(p, now)) {
        return;
    }
    char line[PROGRESS_WIDTH_MAX];
    double seconds = (double)(now - p->stage.began_ms) / 1000;
    p->shown_ms = now;
    progress_stage_bar(line, p->terminal ? columns_of(p) : 100, p->stage.what, p->stage.share,
                       seconds);
    draw_line(p, line);
}

/* -- sound ------------------------------------------------------------------------------------- */

/* Below the cursor's line, which may be the last: ESC D makes room there in any column. */
static void draw_under(progress *p, const char *line)
{
    char text[PROGRESS_WIDTH_MAX + 64];
    int n = snprintf(text, sizeof text, "\033D\033[A\0337\033[B\r\033[2K%s\0338", line);
    wipe(p);
    put(p, text, (size_t)n);
    p->under = true;
}

static void sound_draw(progress *p)
{
    int64_t now = clock_ms();
    if (!p->sound.news || now - p->sound.first_ms < PROGRESS_STAGE_MS || !is_time(p, now)) {
        return;
    }
    char line[PROGRESS_WIDTH_MAX];
    size_t width = p->terminal ? columns_of(p) : 100;
    p->shown_ms = now;
    p->sound.news = false;
    snprintf(line, width < sizeof line ? width + 1 : sizeof line, "speaking: %.1f s of sound",
             p->sound.seconds);
    if (p->sound.under) {
        draw_under(p, line);
    } else {
        draw_line(p, line);
    }
}

void progress_sound(progress *p, double seconds, bool under_text)
{
    if (p->quiet || (under_text && !p->terminal)) {
        return;
    }
    if (!p->sound.on) {
        p->sound.first_ms = clock_ms();
        p->shown_ms = p->terminal ? 0 : p->sound.first_ms;
    }
    p->sound.on = true;
    p->sound.news = true;
    p->sound.under = under_text;
    p->sound.seconds = seconds;
    sound_draw(p);
}

/* -- both -------------------------------------------------------------------------------------- */

bool progress_has_stage(const progress *p)
{
    return p->stage.on || p->sound.news;
}

void progress_stage_draw(progress *p)
{
    if (!p->quiet) {
        stage_draw(p);
        sound_draw(p);
    }
}

void progress_stage_end(progress *p)
{
    if (p->stage.on || p->sound.on) {
        p->stage.on = p->sound.on = p->sound.news = false;
        wipe(p);
    }
}

/* -- the end ----------------------------------------------------------------------------------- */

uint64_t progress_end(progress *p)
{
    uint64_t total;
    wipe(p);
    p->stage.on = false;
    p->ended = true;
    return sum(p, &total);
}
