/*
 * nfc.h - Unicode normalisation form C in linear time.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_NFC_H
#define FLOTILLA_COORDINATOR_TEXT_NFC_H

#include "common/buffer.h"
#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct nfc_work {
    buffer text;     /* the normalised text */
    int32_t *points; /* code points of the stretch in work, and as much again for sorting */
    size_t capacity;
} nfc_work; /* all zero: empty; one for each thread */

/* NFC of well-formed text. *out is `text` itself where no character of it can change (all of it
 * below U+0300), else memory of w that lasts until the next call. FLO_FAIL: no memory. */
flo_code nfc_normalise(nfc_work *w, const char *text, size_t n_bytes, const char **out,
                       size_t *n_out, flo_err *err);
void nfc_work_free(nfc_work *w);

#endif
