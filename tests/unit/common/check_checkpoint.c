/*
 * check_checkpoint.c - a tensor file is read as its format says, and every way of being wrong is
 * refused with the name of the file and the tensor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/checkpoint.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];

static int make_folder(void **state)
{
    (void)state;
    temp_folder_make(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

#define F32_ENTRY(name, begin, end)                                                                \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" #begin "," #end "]}"

static void assert_names(const char *sentence, const char *words)
{
    char copy[256];
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, "|"); word != NULL; word = strtok(NULL, "|")) {
        if (strstr(sentence, word) == NULL) {
            fail_msg("'%s' is not in: %s", word, sentence);
        }
    }
}

static void assert_refused(flo_code expected, const char *words)
{
    checkpoint *c = NULL;
    flo_err err = {{0}};
    assert_int_equal(checkpoint_open(&c, folder, &err), expected);
    assert_null(c);
    assert_names(err.text, words);
}

static void faulty_headers_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        const char *words; /* of the sentence, divided by | */
    } cases[] = {
        {"[]", 0, "not a JSON object"},
        {"{", 0, "header|line 1"},
        {"{} {}", 0, "behind"},
        {"\xff{}", 0, "UTF-8"},
        {"{\"a\\u0000b\":{}}", 0, "NUL"},
        {"{\"x.y\":7}", 0, "x.y|not an object"},
        {"{\"x.y\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "x.y|dtype"},
        {"{\"x.y\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "x.y|F33"},
        {"{\"x.y\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "x.y|dtype"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "x.y|shape"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "x.y|shape"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "x.y|shape"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4, "x.y|shape"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
         "x.y|dimensions"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}",
         0, "x.y|more elements"},
        {"{\"x.y\":{\"dtype\":\"F64\",\"shape\":[4294967296,1073741824],\"data_offsets\":[0,0]}}",
         0, "x.y|more bytes"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "x.y|data_offsets"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "x.y|data_offsets"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4,
         "x.y|data_offsets"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "x.y|before"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4,
         "x.y|data_offsets"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "x.y|4 bytes|8"},
        {"{\"x.y\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "x.y|twice"},
        {"{" F32_ENTRY("x.y", 0, 4) "}", 3, "x.y|truncated"},
        {"{" F32_ENTRY("x.y", 0, 4) "}", 5, "x.y|1 bytes behind"},
        {"{}", 5, "5 bytes behind"},
        {"{" F32_ENTRY("a", 0, 4) "," F32_ENTRY("b", 2, 6) "}", 6, "b|overlaps|a"},
        {"{" F32_ENTRY("a", 0, 4) "," F32_ENTRY("b", 0, 4) "}", 4, "overlaps"},
        {"{" F32_ENTRY("a", 0, 4) "," F32_ENTRY("b", 8, 12) "}", 12, "4 bytes before tensor b"},
        {"{" F32_ENTRY("a", 4, 8) "}", 8, "4 bytes before tensor a"},
        {"{" F32_ENTRY("a", 0, 4) "," F32_ENTRY("a", 4, 8) "}", 8, "tensor a|twice"},
        {"{\"__metadata__\":{\"format\":1}}", 0, "__metadata__"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        temp_tensors_write(folder, "model.safetensors", cases[i].header, cases[i].n_data);
        assert_refused(FLO_FAIL, cases[i].words);
    }
}

static void every_truncation_of_a_file_is_refused(void **state)
{
    (void)state;
    static const char header[] = "{" F32_ENTRY("x", 0, 4) "," F32_ENTRY("y", 4, 8) "}";
    temp_tensors_write(folder, "model.safetensors", header, 8);
    size_t n = 8 + strlen(header) + 8;
    for (size_t keep = n; keep-- > 0;) {
        assert_int_equal(truncate(temp_path(folder, "model.safetensors"), (off_t)keep), 0);
        assert_refused(FLO_FAIL, "model.safetensors");
    }
}

static void an_absurd_header_length_is_refused(void **state)
{
    (void)state;
    unsigned char bytes[64] = {0};
    memset(bytes, 0xff, 8);
    temp_file_write(folder, "model.safetensors", bytes, sizeof bytes);
    assert_refused(FLO_FAIL, "header|18446744073709551615");
    memcpy(bytes, "\x01\xe1\xf5\x05\0\0\0", 8); /* 100,000,001 */
    temp_file_write(folder, "model.safetensors", bytes, sizeof bytes);
    assert_refused(FLO_FAIL, "header|100000001");
    memcpy(bytes, "version https://git-lfs", 23);
    temp_file_write(folder, "model.safetensors", bytes, sizeof bytes);
    assert_refused(FLO_FAIL, "git-lfs");
}

static void too_many_values_are_refused_before_they_are_parsed(void **state)
{
    (void)state;
    size_t n = (size_t)40 << 20;
    char *header = malloc(n + 1);
    assert_non_null(header);
    memset(header, ',', n);
    memcpy(header, "{\"a\":[1", 7);
    header[n] = '\0';
    temp_tensors_write(folder, "model.safetensors", header, 0);
    free(header);
    assert_refused(FLO_FAIL, "model.safetensors|JSON values");
}

static void legal_oddities_are_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n_data, n_tensors;
    } cases[] = {
        {"{}", 0, 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, 0},
        {"{\"__metadata__\":null}", 0, 0},
        {"{" F32_ENTRY("a", 0, 4) "}     ", 4, 1},
        {" {" F32_ENTRY("a", 0, 4) "}", 4, 1},
        {"{" F32_ENTRY("b", 4, 8) "," F32_ENTRY("a", 0, 4) "}", 8, 2},
        {"{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 1},
        {"{\"e\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[0,0]}}", 0, 1},
        {"{" F32_ENTRY("a", 0,
                       4) ",\"e\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[4,4]}}",
         4, 2},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"note\":1}}", 4, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        temp_tensors_write(folder, "model.safetensors", cases[i].header, cases[i].n_data);
        checkpoint *c = NULL;
        flo_err err = {{0}};
        if (checkpoint_open(&c, folder, &err) != FLO_OK) {
            fail_msg("%s: %s", cases[i].header, err.text);
        }
        assert_int_equal(checkpoint_count(c), cases[i].n_tensors);
        checkpoint_close(c);
    }
}

static void bytes_of_a_tensor_are_read_from_where_they_lie(void **state)
{
    (void)state;
    static const char header[] =
        "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]}," F32_ENTRY("a", 0,
                                                                                         4) "}";
    temp_tensors_write(folder, "model.safetensors", header, 16);
    checkpoint *c = NULL;
    flo_err err = {{0}};
    assert_int_equal(checkpoint_open(&c, folder, &err), FLO_OK);
    const checkpoint_tensor *b = checkpoint_find(c, "b");
    assert_non_null(b);
    assert_ptr_equal(b, checkpoint_at(c, 1));
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->n_elements, 6);
    assert_int_equal(b->n_bytes, 12);
    unsigned char bytes[5] = {0};
    assert_int_equal(checkpoint_read(c, b, 7, bytes, sizeof bytes, &err), FLO_OK);
    assert_memory_equal(bytes, "\x0b\x0c\x0d\x0e\x0f", 5);

    /* The file shrinks while it is open. */
    assert_int_equal(truncate(temp_path(folder, "model.safetensors"), 20), 0);
    assert_int_equal(checkpoint_read(c, b, 7, bytes, sizeof bytes, &err), FLO_FAIL);
    assert_names(err.text, "model.safetensors|tensor b|byte");
    assert_null(checkpoint_find(c, "c"));
    checkpoint_close(c);
}

static void names_of_the_thinker_alone_get_its_prefix(void **state)
{
    (void)state;
    static const char header[] = "{" F32_ENTRY("model.norm.weight", 0, 4) "," F32_ENTRY(
        "lm_head.weight", 4, 8) "," F32_ENTRY("talker.model.norm.weight", 8, 12) "}";
    temp_tensors_write(folder, "model.safetensors", header, 12);
    checkpoint *c = NULL;
    flo_err err = {{0}};
    assert_int_equal(checkpoint_open(&c, folder, &err), FLO_OK);
    assert_non_null(checkpoint_find(c, "thinker.model.norm.weight"));
    assert_non_null(checkpoint_find(c, "thinker.lm_head.weight"));
    assert_non_null(checkpoint_find(c, "talker.model.norm.weight"));
    checkpoint_close(c);
    assert_int_equal(checkpoint_open_file(&c, temp_path(folder, "model.safetensors"), &err),
                     FLO_OK);
    assert_non_null(checkpoint_find(c, "lm_head.weight"));
    checkpoint_close(c);
}

/* ---- folders ---- */

static void write_index(const char *weight_map)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "{\"metadata\":{},\"weight_map\":%s}", weight_map);
    temp_file_write(folder, "model.safetensors.index.json", text, (size_t)n);
}

static void faulty_indexes_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *weight_map, *words;
    } cases[] = {
        {"7", "index.json|weight_map"},
        {"{}", "weight_map"},
        {"{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\",\"c\":\"none.safetensors\"}",
         "none.safetensors|no such file"},
        {"{\"a\":\"one.safetensors\",\"zz\":\"one.safetensors\"}", "zz|one.safetensors|missing"},
        {"{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}", "a|index"},
        {"{\"a\":\"../one.safetensors\"}", "tensor a|../one.safetensors"},
        {"{\"a\":\"/etc/passwd\"}", "tensor a|/etc/passwd"},
        {"{\"a\":\"sub/one.safetensors\"}", "tensor a|sub/one"},
        {"{\"a\":\"..\"}", "tensor a"},
        {"{\"a\":\"\"}", "tensor a"},
        {"{\"a\":3}", "tensor a"},
        {"{\"a\":\"one.safetensors\",\"b\":\"again.safetensors\"}", "tensor a|twice"},
    };
    temp_tensors_write(folder, "one.safetensors", "{" F32_ENTRY("a", 0, 4) "}", 4);
    temp_tensors_write(folder, "two.safetensors", "{" F32_ENTRY("b", 0, 4) "}", 4);
    temp_tensors_write(folder, "again.safetensors",
                       "{" F32_ENTRY("a", 0, 4) "," F32_ENTRY("b", 4, 8) "}", 8);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_index(cases[i].weight_map);
        assert_refused(FLO_FAIL, cases[i].words);
    }
    temp_file_write(folder, "model.safetensors.index.json", "{\"weight_map\": {", 16);
    assert_refused(FLO_FAIL, "index.json|line 1");
}

static void a_truncated_shard_is_refused_by_name(void **state)
{
    (void)state;
    temp_tensors_write(folder, "one.safetensors", "{" F32_ENTRY("a", 0, 4) "}", 4);
    temp_tensors_write(folder, "two.safetensors", "{" F32_ENTRY("b.weight", 0, 4) "}", 2);
    write_index("{\"a\":\"one.safetensors\",\"b.weight\":\"two.safetensors\"}");
    assert_refused(FLO_FAIL, "two.safetensors|b.weight|truncated");
}

static void an_index_may_name_the_single_file_but_not_stand_beside_it(void **state)
{
    (void)state;
    temp_tensors_write(folder, "model.safetensors", "{" F32_ENTRY("a", 0, 4) "}", 4);
    temp_tensors_write(folder, "one.safetensors", "{" F32_ENTRY("a", 0, 4) "}", 4);
    write_index("{\"a\":\"model.safetensors\"}");
    checkpoint *c = NULL;
    flo_err err = {{0}};
    assert_int_equal(checkpoint_open(&c, folder, &err), FLO_OK);
    assert_int_equal(checkpoint_count(c), 1);
    checkpoint_close(c);
    write_index("{\"a\":\"one.safetensors\"}");
    assert_refused(FLO_FAIL, "both|model.safetensors");
}

static void shards_may_be_links_out_of_the_folder(void **state)
{
    (void)state;
    char blobs[PATH_MAX];
    temp_folder_make(blobs);
    temp_tensors_write(blobs, "f00d", "{" F32_ENTRY("a", 0, 4) "}", 4);
    assert_int_equal(symlink(temp_path(blobs, "f00d"), temp_path(folder, "one.safetensors")), 0);
    write_index("{\"a\":\"one.safetensors\"}");
    checkpoint *c = NULL;
    flo_err err = {{0}};
    assert_int_equal(checkpoint_open(&c, folder, &err), FLO_OK);
    assert_string_equal(checkpoint_file_name(c, checkpoint_find(c, "a")->file), "one.safetensors");
    checkpoint_close(c);
    temp_folder_remove(blobs);
    assert_refused(FLO_FAIL, "one.safetensors|no such file"); /* the link dangles now */
}

static void a_folder_without_weights_is_refused(void **state)
{
    (void)state;
    assert_refused(FLO_FAIL, "no weights");
    assert_int_equal(mkdir(temp_path(folder, "model.safetensors"), 0700), 0);
    assert_refused(FLO_FAIL, "model.safetensors|not a regular file");
    temp_folder_remove(folder);
    assert_refused(FLO_USAGE, "no such folder");
    assert_int_equal(mkfifo(folder, 0600), 0);
    assert_refused(FLO_USAGE, "not a folder");
}

static void a_pipe_is_refused_and_not_waited_for(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(temp_path(folder, "model.safetensors"), 0600), 0);
    assert_refused(FLO_FAIL, "not a regular file");
}

static void the_reference_checkpoint_is_read(void **state)
{
    (void)state;
    checkpoint *c = NULL;
    flo_err err = {{0}};
    assert_int_equal(checkpoint_open(&c, source_path("tests/golden/tiny-omni"), &err), FLO_OK);
    assert_int_equal(checkpoint_count(c), 880);
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < checkpoint_count(c); i++) {
        const checkpoint_tensor *t = checkpoint_at(c, i);
        n_bytes += t->n_bytes;
        assert_ptr_equal(checkpoint_find(c, t->name), t);
    }
    assert_int_equal(n_bytes, 12460538); /* total_size of its index */
    checkpoint_close(c);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(faulty_headers_are_refused_by_name),
        IN_FOLDER(every_truncation_of_a_file_is_refused),
        IN_FOLDER(an_absurd_header_length_is_refused),
        IN_FOLDER(too_many_values_are_refused_before_they_are_parsed),
        IN_FOLDER(legal_oddities_are_accepted),
        IN_FOLDER(bytes_of_a_tensor_are_read_from_where_they_lie),
        IN_FOLDER(names_of_the_thinker_alone_get_its_prefix),
        IN_FOLDER(faulty_indexes_are_refused_by_name),
        IN_FOLDER(a_truncated_shard_is_refused_by_name),
        IN_FOLDER(an_index_may_name_the_single_file_but_not_stand_beside_it),
        IN_FOLDER(shards_may_be_links_out_of_the_folder),
        IN_FOLDER(a_folder_without_weights_is_refused),
        IN_FOLDER(a_pipe_is_refused_and_not_waited_for),
        cmocka_unit_test(the_reference_checkpoint_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
