/*
 * progress.h - how far the workers have loaded: a bar for each on a terminal, else a line now and
 * then. Later, in the same way, a stage: one thing that a person waits for; or how much sound is
 * made.
 *
 * On a terminal the bars are redrawn in place at most ten times a second; log lines are put above
 * them. Elsewhere one line for all workers comes every PROGRESS_LINE_MS.
 */
#ifndef FLOTILLA_COMMON_PROGRESS_H
#define FLOTILLA_COMMON_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROGRESS_LINE_MS = 3000,
    PROGRESS_DRAW_MS = 100,
    PROGRESS_STAGE_MS = 1000, /* a stage that is over sooner is not shown */
    PROGRESS_BARS_MAX = 16,
    PROGRESS_WIDTH_MAX = 256
};

typedef struct progress progress;

/* Writes to fd (2); quiet: to nowhere, log lines excepted. Rates count from now. */
progress *progress_new(int fd, bool quiet);
void progress_free(progress *p); /* wipes the bars */

void progress_update(progress *p, int32_t rank, const char *host, uint64_t bytes_done,
                     uint64_t bytes_total);

/* A line above the bars (or just a line). */
void progress_log(progress *p, const char *line);

/* Takes the bars away; nothing more is drawn. Returns the bytes of all workers. */
uint64_t progress_end(progress *p);

/* "encoding photo.png", and the share of it that is done, 0 to 1; 1 ends it. Its bar lives on by
 * progress_stage_draw, as the next news of it may be long in coming. */
void progress_stage(progress *p, const char *what, double share);
bool progress_has_stage(const progress *p); /* or sound that is not shown yet */
void progress_stage_draw(progress *p);      /* when it is time to */
void progress_stage_end(progress *p);       /* takes the bar away, for text to be printed */

/* How much sound of a spoken answer there is, for a person who waits for the rest; taken away by
 * progress_stage_end, and not shown before a second has passed since. under_text: text stands at
 * the cursor, and its line may not be over; the note is drawn under it, and only on a terminal. It
 * is kept up to date by progress_stage_draw. */
void progress_sound(progress *p, double seconds, bool under_text);

/* One bar as text of at most width characters (under PROGRESS_WIDTH_MAX):
 *     worker 2 on b  [######----]  41 %  1.21G of 2.95G  412M/s  4 s left
 * Small widths lose the bar first, then what stands last. seconds: since the start. */
void progress_bar(char out[PROGRESS_WIDTH_MAX], size_t width, const char *name, uint64_t bytes_done,
                  uint64_t bytes_total, double seconds);

/* The same of a stage: what  [####------]  41 %  12 s left. seconds: since its share was 0. */
void progress_stage_bar(char out[PROGRESS_WIDTH_MAX], size_t width, const char *what, double share,
                        double seconds);

#endif
