/*
 * fuzz_tokenizer_text.c - any bytes as text, and as ids: encoding refuses what is not UTF-8,
 * decoding gives the NFC back, and a stream of any ids gives what decoding them at once gives.
 *
 * Needs a tokenizer's folder in FLOTILLA_TOKENIZER_DIR (default: models/tiny of the source tree).
 */
#include "common/buffer.h"
#include "common/check.h"
#include "common/utf8.h"
#include "coordinator/text/nfc.h"
#include "coordinator/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tokenizer *t;

static void open_once(void)
{
    flo_err err = {""};
    const char *folder = getenv("FLOTILLA_TOKENIZER_DIR");
    if (t == NULL && tokenizer_open(&t, folder != NULL ? folder : "models/tiny", &err) != FLO_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

static void check_text(const char *text, size_t n)
{
    int32_t *ids = NULL;
    size_t n_ids, n_back, n_nfc;
    char *back;
    const char *nfc;
    nfc_work w = {0};
    flo_err err = {""};
    flo_code code = tokenizer_encode(t, text, n, true, &ids, &n_ids, &err);
    CHECK((code == FLO_OK) == (utf8_good_bytes(text, n) == n));
    if (code != FLO_OK) {
        return;
    }
    CHECK(tokenizer_decode(t, ids, n_ids, false, &back, &n_back, &err) == FLO_OK);
    CHECK(nfc_normalise(&w, text, n, &nfc, &n_nfc, &err) == FLO_OK);
    CHECK(n_back == n_nfc && memcmp(back, nfc, n_nfc) == 0);
    free(back);
    free(ids);
    nfc_work_free(&w);
    CHECK(tokenizer_encode(t, text, n, false, &ids, &n_ids, &err) == FLO_OK);
    free(ids);
}

/* The bytes of the ids, decoded in one go. */
static void check_ids(const uint8_t *data, size_t n)
{
    buffer streamed = {0};
    detokenizer *d;
    flo_err err = {""};
    size_t n_ids = n / 2;
    int32_t *ids = malloc((n_ids + 1) * sizeof *ids);
    CHECK(detokenizer_new(&d, t, false, &err) == FLO_OK);
    for (size_t i = 0; i < n_ids; i++) {
        const char *piece;
        size_t n_piece;
        ids[i] = (data[2 * i] | data[2 * i + 1] << 8) % tokenizer_size(t);
        CHECK(detokenizer_push(d, ids[i], &piece, &n_piece, &err) == FLO_OK);
        CHECK(utf8_good_bytes(piece, n_piece) == n_piece);
        CHECK(n_piece < 3 || memcmp(piece + n_piece - 3, "\xef\xbf\xbd", 3) != 0);
        buffer_append(&streamed, piece, n_piece);
    }
    const char *rest;
    size_t n_rest, n_whole;
    char *whole;
    CHECK(detokenizer_flush(d, &rest, &n_rest, &err) == FLO_OK);
    buffer_append(&streamed, rest, n_rest);
    CHECK(tokenizer_decode(t, ids, n_ids, false, &whole, &n_whole, &err) == FLO_OK);
    CHECK(n_whole == streamed.n && (n_whole == 0 || memcmp(whole, streamed.at, n_whole) == 0));
    free(whole);
    free(ids);
    detokenizer_free(d);
    buffer_free(&streamed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    open_once();
    char *text = malloc(n > 0 ? n : 1);
    memcpy(text, data, n);
    check_text(text, n);
    check_ids(data, n);
    free(text);
    return 0;
}
