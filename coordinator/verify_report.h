/*
 * verify_report.h - what verification says: a line for each compared tensor, a summary for each
 * section, and one at the end.
 *
 * Columns of a tensor's line: case, tensor, largest error, that error over the root mean square of
 * the reference, what is allowed for each element x of the reference, the share of the allowance
 * that the worst element used, and `ok` or `OVER` with the place of the worst element.
 */
#ifndef FLOTILLA_COORDINATOR_VERIFY_REPORT_H
#define FLOTILLA_COORDINATOR_VERIFY_REPORT_H

#include "common/buffer.h"
#include "common/error.h"
#include "coordinator/verify_compare.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct verify_counts {
    int64_t n_cases;
    int64_t n_tensors; /* compared, numbers */
    int64_t n_texts;   /* compared, texts and lists of ids of the text sections */
    int64_t n_over;    /* of both */
    int64_t n_faults;  /* cases or files that are missing or damaged, or that could not be run */
    int64_t n_alone;   /* tensors that this program has no counterpart for */
} verify_counts;

typedef struct verify_report {
    void (*say)(void *arg, const char *text, size_t n_bytes); /* whole lines */
    void *arg;
    const char *section; /* the one at work */
    bool section_ran;    /* false: some of it was not run */
    verify_counts here, all;
    int64_t n_not_run;             /* sections */
    buffer alone, not_run;         /* their names, "a, b" */
    char first[FLO_ERR_BYTES / 2]; /* the first thing that was over or at fault; "" for none */
} verify_report;

void report_init(verify_report *r, void (*say)(void *arg, const char *text, size_t n_bytes),
                 void *arg);
void report_free(verify_report *r);

/* One line as it is; control characters and ill-formed UTF-8 become '?'. */
void report_line(verify_report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* report_section_end adds to the totals, names the tensors without counterpart, and counts the
 * section as not run where report_not_run was called in between. */
void report_section_begin(verify_report *r, const char *section);
void report_section_end(verify_report *r);

void report_tensor_columns(verify_report *r); /* the line above the lines of tensors */
void report_tensor(verify_report *r, const char *name, const char *tensor, const tensor_view *got,
                   const tensor_view *want, const comparison *c, double atol, double rtol);

/* Texts that were compared for equality: one line for all of a kind in a file. first: where the
 * first difference is, "" where there is none. */
void report_text_columns(verify_report *r);
void report_texts(verify_report *r, const char *file, const char *what, int64_t n, int64_t n_differ,
                  const char *first);

/* A case that is missing, damaged or could not be computed. */
void report_fault(verify_report *r, const char *name, const char *sentence);

/* A tensor that only the reference has; its name is gathered for the section's summary. */
void report_alone(verify_report *r, const char *tensor, int64_t n);

/* The section, or a part of it, cannot be run. */
void report_not_run(verify_report *r, const char *sentence);

/* The last lines. FLO_DIFFERS with a sentence where anything was over, at fault or not run. */
flo_code report_end(verify_report *r, flo_err *err);

#endif
