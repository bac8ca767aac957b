/*
 * verify_report.c - lines made in a buffer on the stack and handed out one by one, so a reader sees
 * each as soon as it is known.
 */
#include "coordinator/verify_report.h"

#include "common/utf8.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES_MAX = 2048, NAMES_BYTES_MAX = 600 };

#define COLUMNS "  %-18s %-22s %13s %10s  %-20s %9s  %s"

void report_init(verify_report *r, void (*say)(void *arg, const char *text, size_t n_bytes),
                 void *arg)
{
    *r = (verify_report){.say = say, .arg = arg};
}

void report_free(verify_report *r)
{
    buffer_free(&r->alone);
    buffer_free(&r->not_run);
}

/* File names and JSON of other people come through here. */
static void make_printable(char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        utf8_part part = utf8_next(text + at, n - at);
        if (part.kind != UTF8_GOOD || part.code_point < 32 || part.code_point == 127) {
            memset(text + at, '?', part.n_bytes);
        }
        at += part.n_bytes;
    }
}

void report_line(verify_report *r, const char *format, ...)
{
    char text[LINE_BYTES_MAX + 1];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, LINE_BYTES_MAX, format, args);
    va_end(args);
    size_t n_bytes = n < 0 ? 0 : n < LINE_BYTES_MAX ? (size_t)n : LINE_BYTES_MAX - 1;
    while (n_bytes > 0 && text[n_bytes - 1] == ' ') {
        n_bytes--; /* empty columns at the end */
    }
    make_printable(text, n_bytes);
    text[n_bytes++] = '\n';
    r->say(r->arg, text, n_bytes);
}

static void note_first(verify_report *r, const char *name, const char *what)
{
    if (r->first[0] == '\0') {
        snprintf(r->first, sizeof r->first, "%s/%s%s%.200s", r->section, name,
                 what[0] != '\0' ? " " : "", what);
    }
}

/* Adds a name to a list unless it is there; a list that is long enough ends in "...". */
static void add_name(buffer *names, const char *name)
{
    size_t n = strlen(name);
    for (size_t at = 0; at + n <= names->n; at++) {
        bool begins = at == 0 || names->at[at - 1] == ' ';
        bool ends = at + n == names->n || names->at[at + n] == ',';
        if (begins && ends && memcmp(names->at + at, name, n) == 0) {
            return;
        }
    }
    bool full = names->n > NAMES_BYTES_MAX;
    if (full && names->at[names->n - 1] == '.') {
        return;
    }
    buffer_append_text(names, names->n > 0 ? ", " : "");
    buffer_append_text(names, full ? "..." : name);
}

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* --- sections ----------------------------------------------------------------------------------
 */

void report_section_begin(verify_report *r, const char *section)
{
    r->section = section;
    r->section_ran = true;
    r->here = (verify_counts){0};
    r->alone.n = 0;
    report_line(r, "%s", section);
}

static void add_counts(verify_counts *to, const verify_counts *from)
{
    to->n_cases += from->n_cases;
    to->n_tensors += from->n_tensors;
    to->n_texts += from->n_texts;
    to->n_over += from->n_over;
    to->n_faults += from->n_faults;
    to->n_alone += from->n_alone;
}

/* "7 cases, 179 tensors compared, 0 over, 0 missing or damaged" */
static void print_counts(char *out, size_t room, const verify_counts *c)
{
    char what[96] = "";
    int n = 0;
    if (c->n_tensors > 0 || c->n_texts == 0) {
        n = snprintf(what, sizeof what, "%" PRId64 " tensor%s%s", c->n_tensors,
                     plural(c->n_tensors), c->n_texts > 0 ? " and " : "");
    }
    if (c->n_texts > 0) {
        snprintf(what + n, sizeof what - (size_t)n, "%" PRId64 " text%s", c->n_texts,
                 plural(c->n_texts));
    }
    snprintf(out, room,
             "%" PRId64 " case%s, %s compared, %" PRId64 " over, %" PRId64 " missing or damaged",
             c->n_cases, plural(c->n_cases), what, c->n_over, c->n_faults);
}

void report_section_end(verify_report *r)
{
    char counts[256];
    add_counts(&r->all, &r->here);
    if (!r->section_ran) {
        r->n_not_run++;
        add_name(&r->not_run, r->section);
    }
    if (r->here.n_cases + r->here.n_faults > 0) {
        print_counts(counts, sizeof counts, &r->here);
        report_line(r, "  in %s: %s", r->section, counts);
    }
    if (r->here.n_alone > 0) {
        report_line(r, "  %" PRId64 " without a counterpart here: %.*s", r->here.n_alone,
                    (int)r->alone.n, r->alone.n > 0 ? r->alone.at : "");
    }
}

/* --- lines -------------------------------------------------------------------------------------
 */

void report_tensor_columns(verify_report *r)
{
    report_line(r, COLUMNS, "case", "tensor", "largest error", "of the rms", "allowed", "used", "");
}

static void print_verdict(char *out, size_t room, const tensor_view *got, const tensor_view *want,
                          const comparison *c)
{
    char a[SHAPE_TEXT_MAX], b[SHAPE_TEXT_MAX];
    if (!c->over) {
        snprintf(out, room, "ok");
    } else if (!c->comparable) {
        snprintf(out, room, "OVER: %s of %s, expected %s of %s",
                 tensor_is_integer(got->dtype) ? "integers" : "real numbers",
                 tensor_shape_print(a, got),
                 tensor_is_integer(want->dtype) ? "integers" : "real numbers",
                 tensor_shape_print(b, want));
    } else {
        snprintf(out, room, "OVER: %" PRIu64 " of %" PRIu64 ", worst at %s: %.9g, expected %.9g",
                 c->n_over, c->n_elements, tensor_place_print(a, want, c->worst), c->got_at,
                 c->want_at);
    }
}

void report_tensor(verify_report *r, const char *name, const char *tensor, const tensor_view *got,
                   const tensor_view *want, const comparison *c, double atol, double rtol)
{
    char largest[32] = "-", relative[32] = "-", allowed[64] = "exact", used[32] = "-";
    char verdict[4 * SHAPE_TEXT_MAX];
    r->here.n_tensors++;
    r->here.n_over += c->over;
    if (c->over) {
        note_first(r, name, tensor);
    }
    if (c->comparable && c->exact) {
        snprintf(largest, sizeof largest, "%.0f", c->largest);
    } else if (c->comparable) {
        snprintf(largest, sizeof largest, "%.2e", c->largest);
        snprintf(relative, sizeof relative, "%.1e", c->relative);
        snprintf(allowed, sizeof allowed, "%.2g + %.1g |x|", atol, rtol);
        snprintf(used, sizeof used, "%.2g %%", 100 * c->used);
    }
    print_verdict(verdict, sizeof verdict, got, want, c);
    report_line(r, COLUMNS, name, tensor, largest, relative, allowed, used, verdict);
}

void report_text_columns(verify_report *r)
{
    report_line(r, COLUMNS, "file", "what", "compared", "differ", "allowed", "", "");
}

void report_texts(verify_report *r, const char *file, const char *what, int64_t n, int64_t n_differ,
                  const char *first)
{
    char compared[32], differ[32], verdict[512] = "ok";
    if (n == 0) {
        return;
    }
    r->here.n_texts += n;
    r->here.n_over += n_differ;
    snprintf(compared, sizeof compared, "%" PRId64, n);
    snprintf(differ, sizeof differ, "%" PRId64, n_differ);
    if (n_differ > 0) {
        note_first(r, file, what);
        snprintf(verdict, sizeof verdict, "OVER: %s", first);
    }
    report_line(r, COLUMNS, file, what, compared, differ, "exact", "", verdict);
}

void report_fault(verify_report *r, const char *name, const char *sentence)
{
    r->here.n_faults++;
    note_first(r, name, "");
    report_line(r, "  %-18s FAULT: %s", name, sentence);
}

void report_alone(verify_report *r, const char *tensor, int64_t n)
{
    r->here.n_alone += n;
    add_name(&r->alone, tensor);
}

void report_not_run(verify_report *r, const char *sentence)
{
    r->section_ran = false;
    report_line(r, "  not run: %s", sentence);
}

/* --- the end -----------------------------------------------------------------------------------
 */

flo_code report_end(verify_report *r, flo_err *err)
{
    char counts[256];
    print_counts(counts, sizeof counts, &r->all);
    report_line(
        r, "in all: %s; %" PRId64 " without a counterpart; %" PRId64 " section%s not run%s%.*s",
        counts, r->all.n_alone, r->n_not_run, plural(r->n_not_run), r->n_not_run > 0 ? ": " : "",
        (int)r->not_run.n, r->not_run.n > 0 ? r->not_run.at : "");
    if (r->all.n_over + r->all.n_faults > 0) {
        return flo_fail(err, FLO_DIFFERS,
                        "%" PRId64 " over their tolerance and %" PRId64
                        " missing or damaged, the first is %s",
                        r->all.n_over, r->all.n_faults, r->first);
    }
    if (r->n_not_run > 0) {
        return flo_fail(err, FLO_DIFFERS, "no difference, but not all was run: %.*s",
                        (int)r->not_run.n, r->not_run.at != NULL ? r->not_run.at : "");
    }
    return FLO_OK;
}
