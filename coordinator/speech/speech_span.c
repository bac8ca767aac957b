/*
 * speech_span.c - see speech_span.h. speech_rows rise, so a span's are found by halving.
 */
#include "coordinator/speech/speech_span.h"

bool speech_rows_are_valid(const generation *g)
{
    int32_t before = -1;
    for (int32_t k = 0; k < g->n_speech_rows; k++) {
        if (g->speech_rows[k] <= before || g->speech_rows[k] >= g->n_prompt) {
            return false;
        }
        before = g->speech_rows[k];
    }
    return true;
}

static bool has_rows(const generation *g)
{
    return g->speech != 0 && g->n_speech_rows > 0;
}

int32_t speech_reuse_max(const generation *g)
{
    return has_rows(g) ? g->speech_rows[0] : g->n_prompt;
}

/* How many rows of speech lie before a position. */
static int32_t rows_before(const generation *g, int64_t position)
{
    int32_t low = 0, high = g->n_speech_rows;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (g->speech_rows[middle] < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void speech_span_name_rows(Flo__Span *span, uint32_t *rows, size_t *n_rows, uint32_t at,
                           const generation *g)
{
    if (!has_rows(g)) {
        return;
    }
    int32_t k = rows_before(g, span->first);
    int32_t end = rows_before(g, (int64_t)span->first + span->rows);
    if (k == end) {
        return;
    }
    span->speech = g->speech;
    span->speech_first = (uint32_t)k;
    for (; k < end; k++) {
        rows[(*n_rows)++] = at + ((uint32_t)g->speech_rows[k] - span->first);
    }
}
