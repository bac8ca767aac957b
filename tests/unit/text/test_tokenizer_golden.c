/*
 * test_tokenizer_golden.c - the same ids and the same text as the reference, on every recorded
 * string.
 */
#include "text_test.h"

typedef struct text {
    char *at;
    size_t n;
} text;

static text text_of(const cJSON *item)
{
    assert_true(cJSON_IsString(item));
    text t;
    t.at = json_string_copy(item, &t.n);
    assert_non_null(t.at);
    return t;
}

static void assert_text(const char *got, size_t n_got, const cJSON *wanted)
{
    text w = text_of(wanted);
    if (n_got != w.n || memcmp(got, w.at, w.n) != 0) {
        fail_msg("got '%.*s', expected '%s'", (int)n_got, got, w.at);
    }
    free(w.at);
}

static void assert_encodes(const tokenizer *t, const cJSON *row)
{
    text input = text_of(json_member(row, "text"));
    const cJSON *wanted = json_member(row, "ids");
    int32_t *ids;
    size_t n_ids;
    flo_err err = {""};
    assert_int_equal(tokenizer_encode(t, input.at, input.n, false, &ids, &n_ids, &err), FLO_OK);
    bool same = (int)n_ids == cJSON_GetArraySize(wanted);
    const cJSON *item = wanted->child;
    for (size_t i = 0; same && i < n_ids; i++, item = item->next) {
        same = ids[i] == item->valueint;
    }
    if (!same) {
        fail_msg("other ids for '%s'", input.at);
    }
    free(ids);
    free(input.at);
}

static int32_t *ids_of(const cJSON *list, size_t *n)
{
    *n = (size_t)cJSON_GetArraySize(list);
    int32_t *ids = malloc((*n + 1) * sizeof *ids);
    size_t i = 0;
    for (const cJSON *item = list->child; item != NULL; item = item->next) {
        ids[i++] = item->valueint;
    }
    return ids;
}

static void assert_decodes(const tokenizer *t, const cJSON *row, bool skip_special, const char *key)
{
    size_t n_ids, n;
    int32_t *ids = ids_of(json_member(row, "ids"), &n_ids);
    char *got;
    flo_err err = {""};
    assert_int_equal(tokenizer_decode(t, ids, n_ids, skip_special, &got, &n, &err), FLO_OK);
    assert_text(got, n, json_member(row, key));
    free(got);
    free(ids);
}

static void every_recorded_string_has_the_reference_ids(void **state)
{
    (void)state;
    tokenizer *t = open_tokenizer(real_folder());
    cJSON *rows = read_golden("tests/golden/tokenization/encode.json");
    assert_true(cJSON_GetArraySize(rows) > 400);
    for (const cJSON *row = rows->child; row != NULL; row = row->next) {
        assert_encodes(t, row);
        assert_decodes(t, row, false, "decoded");
        assert_decodes(t, row, true, "decoded_skip_special");
    }
    cJSON_Delete(rows);
    tokenizer_close(t);
}

static void tokenizer_json_alone_and_the_pair_of_files_agree(void **state)
{
    (void)state;
    tokenizer *t = open_tokenizer(source_path("tests/golden/tiny-omni"));
    cJSON *rows = read_golden("tests/golden/tokenization/tiny-omni.json");
    assert_true(cJSON_GetArraySize(rows) > 0);
    for (const cJSON *row = rows->child; row != NULL; row = row->next) {
        assert_encodes(t, row);
    }
    cJSON_Delete(rows);
    tokenizer_close(t);
}

static void a_stream_hands_out_the_recorded_pieces(void **state)
{
    (void)state;
    tokenizer *t = open_tokenizer(real_folder());
    cJSON *rows = read_golden("tests/golden/tokenization/stream.json");
    assert_true(cJSON_GetArraySize(rows) > 50);
    for (const cJSON *row = rows->child; row != NULL; row = row->next) {
        size_t n_ids, n;
        int32_t *ids = ids_of(json_member(row, "ids"), &n_ids);
        const cJSON *piece = json_member(row, "pieces")->child;
        detokenizer *d;
        const char *got;
        flo_err err = {""};
        assert_int_equal(detokenizer_new(&d, t, false, &err), FLO_OK);
        for (size_t i = 0; i < n_ids; i++, piece = piece->next) {
            assert_int_equal(detokenizer_push(d, ids[i], &got, &n, &err), FLO_OK);
            assert_text(got, n, piece);
        }
        assert_int_equal(detokenizer_flush(d, &got, &n, &err), FLO_OK);
        assert_text(got, n, json_member(row, "flush"));
        assert_int_equal(detokenizer_flush(d, &got, &n, &err), FLO_OK);
        assert_int_equal(n, 0);
        detokenizer_free(d);
        free(ids);
        assert_decodes(t, row, false, "decoded");
        assert_decodes(t, row, true, "decoded_skip_special");
    }
    cJSON_Delete(rows);
    tokenizer_close(t);
}

static void every_prefix_decodes_as_recorded(void **state)
{
    (void)state;
    tokenizer *t = open_tokenizer(real_folder());
    cJSON *rows = read_golden("tests/golden/tokenization/stream.json");
    for (const cJSON *row = rows->child; row != NULL; row = row->next) {
        size_t n_ids, n;
        int32_t *ids = ids_of(json_member(row, "ids"), &n_ids);
        const cJSON *wanted = json_member(row, "prefix_decodes")->child;
        for (size_t k = 0; k < n_ids; k++, wanted = wanted->next) {
            char *got;
            flo_err err = {""};
            assert_int_equal(tokenizer_decode(t, ids, k + 1, false, &got, &n, &err), FLO_OK);
            assert_text(got, n, wanted);
            free(got);
        }
        free(ids);
    }
    cJSON_Delete(rows);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_string_has_the_reference_ids),
        cmocka_unit_test(tokenizer_json_alone_and_the_pair_of_files_agree),
        cmocka_unit_test(a_stream_hands_out_the_recorded_pieces),
        cmocka_unit_test(every_prefix_decodes_as_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
