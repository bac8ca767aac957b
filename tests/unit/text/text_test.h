/*
 * text_test.h - what the tokenizer's tests share: cmocka, the folders, and opening without a fault.
 */
#ifndef FLOTILLA_TESTS_UNIT_TEXT_TEXT_TEST_H
#define FLOTILLA_TESTS_UNIT_TEXT_TEXT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json.h"
#include "coordinator/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A path below the source tree; overwritten by the next call. */
static inline const char *source_path(const char *below)
{
    static char path[4096];
    const char *root = getenv("FLOTILLA_SOURCE_DIR");
    assert_non_null(root);
    snprintf(path, sizeof path, "%s/%s", root, below);
    return path;
}

static inline const char *real_folder(void)
{
    const char *folder = getenv("FLOTILLA_TOKENIZER_DIR");
    assert_non_null(folder);
    return folder;
}

static inline tokenizer *open_tokenizer(const char *folder)
{
    tokenizer *t = NULL;
    flo_err err = {""};
    if (tokenizer_open(&t, folder, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return t;
}

/* The file's JSON with U+0000 in strings as C0 80. */
static inline cJSON *read_golden(const char *below)
{
    FILE *f = fopen(source_path(below), "rb");
    assert_non_null(f);
    buffer text = {0};
    while (buffer_reserve(&text, 1 << 16)) {
        size_t n = fread(text.at + text.n, 1, 1 << 16, f);
        text.n += n;
        if (n == 0) {
            break;
        }
    }
    fclose(f);
    cJSON *root = NULL;
    flo_err err = {""};
    if (json_parse_request(&root, text.at, text.n, &err) != FLO_OK) {
        fail_msg("%s: %s", below, err.text);
    }
    buffer_free(&text);
    return root;
}

#endif
