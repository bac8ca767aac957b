/*
 * checkpoint.c - safetensors headers into one sorted table; weights stay on disk until asked for.
 *
 * A file is 8 bytes of header length (little-endian), a JSON object from names to dtype, shape and
 * byte range, then the data. As in the format's own library the ranges must cover the data exactly:
 * no overlap, no hole, nothing behind the last tensor. So a truncated file is found here, from its
 * size, and a read can only fail if the file changes underneath or the disk does.
 *
 * Opening the published 28,010 tensors costs 3.5 MB of headers and a sort: a tenth of a second. One
 * file descriptor stays open for each shard; reads are pread, so threads share them freely.
 */
#include "common/checkpoint.h"

#include "common/check.h"
#include "common/hash.h"
#include "common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER_BYTES_MAX = 100 * 1000 * 1000, /* as in the format's library */
    INDEX_BYTES_MAX = 32 << 20,           /* ten times the published one */
    SHARDS_MAX = 512,
    READ_BYTES_MAX = 1 << 30, /* of one pread; the kernel cuts at 2 GiB anyway */
    READ_AHEAD_BYTES = 1 << 20
};

typedef struct shard {
    char *name; /* within the folder */
    char *path;
    int fd;
    uint64_t n_bytes;
} shard;

struct checkpoint {
    bool is_model; /* names get the published layout's prefix */
    int32_t n_shards, shards_capacity;
    shard *shards;
    size_t n_tensors, tensors_capacity;
    checkpoint_tensor *tensors; /* sorted by name once open */
};

/* ---- types ---- */

static const struct {
    const char *name;
    size_t n_bytes;
} dtypes[] = {
    [DTYPE_BF16] = {"BF16", 2}, [DTYPE_F16] = {"F16", 2},   [DTYPE_F32] = {"F32", 4},
    [DTYPE_F64] = {"F64", 8},   [DTYPE_I32] = {"I32", 4},   [DTYPE_I64] = {"I64", 8},
    [DTYPE_U8] = {"U8", 1},     [DTYPE_BOOL] = {"BOOL", 1}, [DTYPE_I8] = {"I8", 1},
    [DTYPE_I16] = {"I16", 2},   [DTYPE_U16] = {"U16", 2},   [DTYPE_U32] = {"U32", 4},
    [DTYPE_U64] = {"U64", 8},
};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

size_t tensor_dtype_bytes(tensor_dtype d)
{
    CHECK((size_t)d < N_DTYPES);
    return dtypes[d].n_bytes;
}

const char *tensor_dtype_name(tensor_dtype d)
{
    CHECK((size_t)d < N_DTYPES);
    return dtypes[d].name;
}

static bool dtype_from_name(tensor_dtype *out, const char *name)
{
    for (size_t i = 0; i < N_DTYPES; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *out = (tensor_dtype)i;
            return true;
        }
    }
    return false;
}

/* ---- one tensor's entry ---- */

/* A whole number from 0 to 2^53, the largest that a double counts without gaps. */
static bool whole_number(const cJSON *json, uint64_t *out)
{
    if (!cJSON_IsNumber(json) || !(json->valuedouble >= 0 && json->valuedouble <= 0x1p53) ||
        (double)(uint64_t)json->valuedouble != json->valuedouble) {
        return false;
    }
    *out = (uint64_t)json->valuedouble;
    return true;
}

static flo_code parse_dtype(checkpoint_tensor *t, const cJSON *json, flo_err *err)
{
    if (!cJSON_IsString(json)) {
        return flo_fail(err, FLO_FAIL, "has no dtype");
    }
    if (!dtype_from_name(&t->dtype, json->valuestring)) {
        return flo_fail(err, FLO_FAIL, "dtype '%.40s' is not one that can be read",
                        json->valuestring);
    }
    return FLO_OK;
}

static flo_code parse_shape(checkpoint_tensor *t, const cJSON *json, flo_err *err)
{
    if (!cJSON_IsArray(json)) {
        return flo_fail(err, FLO_FAIL, "has no shape");
    }
    t->n_elements = 1;
    const cJSON *size;
    cJSON_ArrayForEach(size, json)
    {
        uint64_t n;
        if (t->n_dims == TENSOR_DIMS_MAX) {
            return flo_fail(err, FLO_FAIL, "has more than %d dimensions", TENSOR_DIMS_MAX);
        }
        if (!whole_number(size, &n)) {
            return flo_fail(err, FLO_FAIL, "dimension %d of its shape is not a size", t->n_dims);
        }
        if (__builtin_mul_overflow(t->n_elements, n, &t->n_elements)) {
            return flo_fail(err, FLO_FAIL, "its shape has more elements than can be counted");
        }
        t->shape[t->n_dims++] = (int64_t)n;
    }
    if (__builtin_mul_overflow(t->n_elements, tensor_dtype_bytes(t->dtype), &t->n_bytes)) {
        return flo_fail(err, FLO_FAIL, "its shape has more bytes than can be counted");
    }
    return FLO_OK;
}

static flo_code parse_offsets(checkpoint_tensor *t, const cJSON *json, uint64_t data_at,
                              uint64_t data_bytes, flo_err *err)
{
    uint64_t begin = 0, end = 0;
    const cJSON *first = cJSON_IsArray(json) ? json->child : NULL;
    if (first == NULL || first->next == NULL || first->next->next != NULL ||
        !whole_number(first, &begin) || !whole_number(first->next, &end)) {
        return flo_fail(err, FLO_FAIL, "data_offsets are not two byte positions");
    }
    if (begin > end) {
        return flo_fail(err, FLO_FAIL, "data_offsets end before they begin");
    }
    if (end - begin != t->n_bytes) {
        return flo_fail(err, FLO_FAIL,
                        "data_offsets span %llu bytes, its shape and dtype need %llu",
                        (unsigned long long)(end - begin), (unsigned long long)t->n_bytes);
    }
    if (end > data_bytes) {
        return flo_fail(err, FLO_FAIL,
                        "lies beyond the end of the file: its data ends at byte %llu, the file has "
                        "%llu; the file is truncated, fetch it again",
                        (unsigned long long)(data_at + end),
                        (unsigned long long)(data_at + data_bytes));
    }
    t->offset = data_at + begin;
    return FLO_OK;
}

static bool has_member_twice(const cJSON *object)
{
    const cJSON *a;
    cJSON_ArrayForEach(a, object)
    {
        for (const cJSON *b = a->next; b != NULL; b = b->next) {
            if (strcmp(a->string, b->string) == 0) {
                return true;
            }
        }
    }
    return false;
}

static flo_code parse_tensor(checkpoint_tensor *t, const cJSON *json, uint64_t data_at,
                             uint64_t data_bytes, flo_err *err)
{
    if (!cJSON_IsObject(json)) {
        return flo_fail(err, FLO_FAIL, "its entry is not an object");
    }
    if (cJSON_GetArraySize(json) > 16 || has_member_twice(json)) {
        return flo_fail(err, FLO_FAIL, "its entry names a field twice or has too many");
    }
    flo_code code = parse_dtype(t, json_member(json, "dtype"), err);
    if (code == FLO_OK) {
        code = parse_shape(t, json_member(json, "shape"), err);
    }
    if (code == FLO_OK) {
        code = parse_offsets(t, json_member(json, "data_offsets"), data_at, data_bytes, err);
    }
    return code;
}

/* The name as the published layout has it; files saved from the thinker alone lack its prefix. */
static char *tensor_name(bool is_model, const char *name)
{
    static const char *const of_thinker[] = {"model.", "lm_head.", "audio_tower.", "visual."};
    bool add = false;
    for (size_t i = 0; is_model && i < sizeof of_thinker / sizeof of_thinker[0]; i++) {
        add |= strncmp(name, of_thinker[i], strlen(of_thinker[i])) == 0;
    }
    char *copy;
    return asprintf(&copy, "%s%s", add ? "thinker." : "", name) < 0 ? NULL : copy;
}

static flo_code append_tensor(checkpoint *c, const checkpoint_tensor *t, flo_err *err)
{
    if (c->n_tensors == c->tensors_capacity) {
        size_t capacity = c->tensors_capacity == 0 ? 1024 : 2 * c->tensors_capacity;
        checkpoint_tensor *grown = realloc(c->tensors, capacity * sizeof *grown);
        if (grown == NULL) {
            return flo_fail(err, FLO_FAIL, "no memory for the names of %zu tensors", capacity);
        }
        c->tensors = grown;
        c->tensors_capacity = capacity;
    }
    c->tensors[c->n_tensors++] = *t;
    return FLO_OK;
}

/* ---- one file ---- */

static flo_code check_metadata(const cJSON *json, flo_err *err)
{
    if (cJSON_IsNull(json)) {
        return FLO_OK;
    }
    const cJSON *entry;
    bool ok = cJSON_IsObject(json);
    cJSON_ArrayForEach(entry, json)
    {
        ok = ok && cJSON_IsString(entry);
    }
    return ok ? FLO_OK : flo_fail(err, FLO_FAIL, "__metadata__ is not an object of strings");
}

static flo_code add_tensors(checkpoint *c, int32_t file, const cJSON *header, uint64_t data_at,
                            flo_err *err)
{
    uint64_t data_bytes = c->shards[file].n_bytes - data_at;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, header)
    {
        if (strcmp(entry->string, "__metadata__") == 0) {
            flo_code code = check_metadata(entry, err);
            if (code != FLO_OK) {
                return code;
            }
            continue;
        }
        checkpoint_tensor t = {.file = file};
        flo_code code = parse_tensor(&t, entry, data_at, data_bytes, err);
        if (code != FLO_OK) {
            flo_context(err, "tensor %.200s", entry->string);
            return code;
        }
        char *name = tensor_name(c->is_model, entry->string);
        t.name = name;
        code = name == NULL ? flo_fail(err, FLO_FAIL, "no memory") : append_tensor(c, &t, err);
        if (code != FLO_OK) {
            free(name);
            return code;
        }
    }
    return FLO_OK;
}

static int by_offset(const void *a, const void *b)
{
    const checkpoint_tensor *x = a, *y = b;
    if (x->offset != y->offset) {
        return x->offset < y->offset ? -1 : 1;
    }
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes); /* empty tensors first */
}

/* The file's own tensors must cover its data, byte for byte. Sorts them by offset on the way. */
static flo_code check_cover(checkpoint_tensor *tensors, size_t n, uint64_t data_at,
                            uint64_t file_bytes, flo_err *err)
{
    if (n > 0) {
        qsort(tensors, n, sizeof *tensors, by_offset);
    }
    uint64_t at = data_at;
    for (size_t i = 0; i < n; i++) {
        const checkpoint_tensor *t = &tensors[i];
        if (t->offset < at) {
            return flo_fail(err, FLO_FAIL, "tensor %.200s overlaps tensor %.200s", t->name,
                            tensors[i - 1].name);
        }
        if (t->offset > at) {
            return flo_fail(err, FLO_FAIL, "%llu bytes before tensor %.200s belong to no tensor",
                            (unsigned long long)(t->offset - at), t->name);
        }
        at += t->n_bytes;
    }
    if (at != file_bytes) {
        return flo_fail(err, FLO_FAIL,
                        "%llu bytes behind the last tensor%s%.200s belong to no tensor",
                        (unsigned long long)(file_bytes - at), n > 0 ? " " : "",
                        n > 0 ? tensors[n - 1].name : "");
    }
    return FLO_OK;
}

static flo_code read_bytes(const shard *s, uint64_t at, void *out, size_t n_bytes, flo_err *err)
{
    unsigned char *to = out;
    size_t done = 0;
    while (done < n_bytes) {
        size_t want = n_bytes - done < READ_BYTES_MAX ? n_bytes - done : READ_BYTES_MAX;
        ssize_t n = pread(s->fd, to + done, want, (off_t)(at + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return flo_fail(err, FLO_FAIL, "cannot be read at byte %llu: %s",
                            (unsigned long long)(at + done), strerror(errno));
        }
        if (n == 0) {
            return flo_fail(err, FLO_FAIL, "ends at byte %llu, was longer when it was opened",
                            (unsigned long long)(at + done));
        }
        done += (size_t)n;
    }
    return FLO_OK;
}

/* The header's text and where the data begins. */
static flo_code read_header(const shard *s, char **out, uint64_t *n_bytes, flo_err *err)
{
    unsigned char prefix[8];
    if (s->n_bytes < sizeof prefix) {
        return flo_fail(err, FLO_FAIL, "%llu bytes are too few for a safetensors file",
                        (unsigned long long)s->n_bytes);
    }
    flo_code code = read_bytes(s, 0, prefix, sizeof prefix, err);
    if (code != FLO_OK) {
        return code;
    }
    if (memcmp(prefix, "version ", sizeof prefix) == 0) {
        return flo_fail(err, FLO_FAIL,
                        "is a git-lfs pointer, not the weights; fetch the file itself");
    }
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) {
        length = length << 8 | prefix[i];
    }
    if (length > HEADER_BYTES_MAX) {
        return flo_fail(err, FLO_FAIL,
                        "says its header has %llu bytes, at most %d are allowed; this is no "
                        "safetensors file or it is corrupted",
                        (unsigned long long)length, HEADER_BYTES_MAX);
    }
    if (length > s->n_bytes - sizeof prefix) {
        return flo_fail(
            err, FLO_FAIL,
            "its header of %llu bytes goes beyond the end of the file (%llu bytes); the "
            "file is truncated, fetch it again",
            (unsigned long long)length, (unsigned long long)s->n_bytes);
    }
    char *text = malloc((size_t)length + 1);
    if (text == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory for its header of %llu bytes",
                        (unsigned long long)length);
    }
    code = read_bytes(s, sizeof prefix, text, (size_t)length, err);
    if (code != FLO_OK) {
        free(text);
        return code;
    }
    *out = text;
    *n_bytes = length;
    return FLO_OK;
}

static flo_code read_shard(checkpoint *c, int32_t file, flo_err *err)
{
    const shard *s = &c->shards[file];
    char *text = NULL;
    uint64_t length = 0;
    flo_code code = read_header(s, &text, &length, err);
    if (code != FLO_OK) {
        return code;
    }
    cJSON *header = NULL;
    code = json_parse(&header, text, (size_t)length, err);
    free(text);
    if (code != FLO_OK) {
        flo_context(err, "header");
        return code;
    }
    size_t first = c->n_tensors;
    uint64_t data_at = 8 + length;
    if (!cJSON_IsObject(header)) {
        code = flo_fail(err, FLO_FAIL, "its header is not a JSON object");
    } else {
        code = add_tensors(c, file, header, data_at, err);
    }
    cJSON_Delete(header);
    if (code == FLO_OK) {
        size_t n = c->n_tensors - first;
        code = check_cover(n > 0 ? c->tensors + first : NULL, n, data_at, s->n_bytes, err);
    }
    return code;
}

static flo_code open_shard_file(shard *s, flo_err *err)
{
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    if (s->fd < 0) {
        return flo_fail(err, FLO_FAIL, "%s", errno == ENOENT ? "no such file" : strerror(errno));
    }
    struct stat st;
    if (fstat(s->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return flo_fail(err, FLO_FAIL, "not a regular file");
    }
    s->n_bytes = (uint64_t)st.st_size;
    return FLO_OK;
}

/* FOLDER/NAME on the heap, NAME alone where the folder is ""; NULL without memory. */
static char *path_join(const char *folder, const char *name)
{
    char *path;
    return asprintf(&path, "%s%s%s", folder, folder[0] != '\0' ? "/" : "", name) < 0 ? NULL : path;
}

static flo_code add_shard(checkpoint *c, const char *folder, const char *name, flo_err *err)
{
    CHECK(c->n_shards < c->shards_capacity);
    shard *s = &c->shards[c->n_shards++];
    *s = (shard){.fd = -1};
    s->name = strdup(name);
    s->path = path_join(folder, name);
    if (s->name == NULL || s->path == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory");
    }
    flo_code code = open_shard_file(s, err);
    if (code == FLO_OK) {
        code = read_shard(c, c->n_shards - 1, err);
    }
    if (code != FLO_OK) {
        flo_context(err, "%s", s->path);
    }
    return code;
}

/* ---- the whole folder ---- */

static int by_name(const void *a, const void *b)
{
    const checkpoint_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static flo_code sort_by_name(checkpoint *c, flo_err *err)
{
    if (c->n_tensors > 0) {
        qsort(c->tensors, c->n_tensors, sizeof *c->tensors, by_name);
    }
    for (size_t i = 1; i < c->n_tensors; i++) {
        const checkpoint_tensor *a = &c->tensors[i - 1], *b = &c->tensors[i];
        if (strcmp(a->name, b->name) == 0) {
            return flo_fail(err, FLO_FAIL, "tensor %.200s is there twice, in %s and in %s", a->name,
                            checkpoint_file_name(c, a->file), checkpoint_file_name(c, b->file));
        }
    }
    return FLO_OK;
}

static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different file names of the index, sorted; they stay owned by it. */
static flo_code shard_names(const cJSON *weight_map, const char ***out, size_t *n_out, flo_err *err)
{
    size_t n = (size_t)cJSON_GetArraySize(weight_map);
    const char **names = malloc((n + 1) * sizeof *names);
    if (names == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory for %zu names", n);
    }
    size_t i = 0;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, weight_map)
    {
        if (!cJSON_IsString(entry) || !is_plain_name(entry->valuestring)) {
            flo_code code =
                flo_fail(err, FLO_FAIL,
                         "tensor %.200s is said to be in '%.200s', which is not the name of "
                         "a file in this folder",
                         entry->string, cJSON_IsString(entry) ? entry->valuestring : "?");
            free(names);
            return code;
        }
        names[i++] = entry->valuestring;
    }
    qsort(names, n, sizeof *names, by_text);
    size_t n_unique = 0;
    for (i = 0; i < n; i++) {
        if (n_unique == 0 || strcmp(names[n_unique - 1], names[i]) != 0) {
            names[n_unique++] = names[i];
        }
    }
    *out = names;
    *n_out = n_unique;
    return FLO_OK;
}

static flo_code reserve_shards(checkpoint *c, size_t n, flo_err *err)
{
    if (n > SHARDS_MAX) {
        return flo_fail(err, FLO_FAIL, "%zu shards, at most %d are read", n, SHARDS_MAX);
    }
    c->shards = calloc(n, sizeof *c->shards);
    if (c->shards == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory");
    }
    c->shards_capacity = (int32_t)n;
    return FLO_OK;
}

/* Each tensor of the index is in the shard that the index says. */
static flo_code check_index(const checkpoint *c, const cJSON *weight_map, flo_err *err)
{
    const cJSON *entry;
    cJSON_ArrayForEach(entry, weight_map)
    {
        char *name = tensor_name(c->is_model, entry->string);
        if (name == NULL) {
            return flo_fail(err, FLO_FAIL, "no memory");
        }
        const checkpoint_tensor *t = checkpoint_find(c, name);
        free(name);
        if (t == NULL) {
            return flo_fail(err, FLO_FAIL,
                            "tensor %.200s is missing from %.200s, where the index puts it",
                            entry->string, entry->valuestring);
        }
        if (strcmp(c->shards[t->file].name, entry->valuestring) != 0) {
            return flo_fail(err, FLO_FAIL, "tensor %.200s is in %.200s, the index says %.200s",
                            entry->string, c->shards[t->file].name, entry->valuestring);
        }
    }
    return FLO_OK;
}

static flo_code open_shards(checkpoint *c, const char *folder, const cJSON *weight_map,
                            flo_err *err)
{
    const char **names = NULL;
    size_t n = 0;
    flo_code code = shard_names(weight_map, &names, &n, err);
    if (code != FLO_OK) {
        return code;
    }
    code = reserve_shards(c, n, err);
    for (size_t i = 0; code == FLO_OK && i < n; i++) {
        code = add_shard(c, folder, names[i], err);
    }
    free(names);
    if (code == FLO_OK) {
        code = sort_by_name(c, err);
    }
    return code == FLO_OK ? check_index(c, weight_map, err) : code;
}

static flo_code open_indexed(checkpoint *c, const char *folder, const char *index_path,
                             flo_err *err)
{
    cJSON *index = NULL;
    flo_code code = json_read(&index, index_path, INDEX_BYTES_MAX, err);
    if (code != FLO_OK) {
        return FLO_FAIL;
    }
    const cJSON *weight_map = json_member(index, "weight_map");
    if (!cJSON_IsObject(weight_map) || weight_map->child == NULL) {
        code = flo_fail(err, FLO_FAIL, "has no weight_map with tensors");
    } else {
        code = open_shards(c, folder, weight_map, err);
    }
    if (code != FLO_OK) {
        flo_context(err, "%s", index_path);
    }
    cJSON_Delete(index);
    return code;
}

static bool path_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0; /* a dangling link exists: opening it will say what is wrong */
}

static flo_code check_folder(const char *folder, flo_err *err)
{
    struct stat st;
    if (stat(folder, &st) != 0) {
        return flo_fail(err, FLO_USAGE, "%s: %s", folder,
                        errno == ENOENT ? "no such folder" : strerror(errno));
    }
    return S_ISDIR(st.st_mode) ? FLO_OK : flo_fail(err, FLO_USAGE, "%s: not a folder", folder);
}

static flo_code open_single(checkpoint *c, const char *folder, const char *name, flo_err *err)
{
    flo_code code = reserve_shards(c, 1, err);
    if (code == FLO_OK) {
        code = add_shard(c, folder, name, err);
    }
    if (code == FLO_OK) {
        code = sort_by_name(c, err);
    }
    return code;
}

static bool has_shard(const checkpoint *c, const char *name)
{
    for (int32_t i = 0; i < c->n_shards; i++) {
        if (strcmp(c->shards[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* With both an index and a single file that it does not name the reference would take the single
 * file, most other readers the index: nobody can know which is meant. */
static flo_code open_folder(checkpoint *c, const char *folder, flo_err *err)
{
    char *index_path = path_join(folder, "model.safetensors.index.json");
    char *single_path = path_join(folder, "model.safetensors");
    flo_code code;
    if (index_path == NULL || single_path == NULL) {
        code = flo_fail(err, FLO_FAIL, "no memory");
    } else if (path_exists(index_path)) {
        code = open_indexed(c, folder, index_path, err);
        if (code == FLO_OK && path_exists(single_path) && !has_shard(c, "model.safetensors")) {
            code = flo_fail(err, FLO_FAIL,
                            "%s: holds both model.safetensors and an index of other files; one of "
                            "them is left over, remove it",
                            folder);
        }
    } else if (path_exists(single_path)) {
        code = open_single(c, folder, "model.safetensors", err);
    } else {
        code =
            flo_fail(err, FLO_FAIL,
                     "%s: no weights: neither model.safetensors.index.json nor model.safetensors "
                     "is there",
                     folder);
    }
    free(single_path);
    free(index_path);
    return code;
}

static flo_code checkpoint_new(checkpoint **out, bool is_model, flo_err *err)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory");
    }
    (*out)->is_model = is_model;
    return FLO_OK;
}

flo_code checkpoint_open(checkpoint **out, const char *folder, flo_err *err)
{
    checkpoint *c = NULL;
    flo_code code = check_folder(folder, err);
    if (code == FLO_OK) {
        code = checkpoint_new(&c, true, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    code = open_folder(c, folder, err);
    if (code != FLO_OK) {
        checkpoint_close(c);
        return code;
    }
    *out = c;
    return FLO_OK;
}

flo_code checkpoint_open_file(checkpoint **out, const char *path, flo_err *err)
{
    checkpoint *c = NULL;
    flo_code code = checkpoint_new(&c, false, err);
    if (code != FLO_OK) {
        return code;
    }
    code = open_single(c, "", path, err);
    if (code != FLO_OK) {
        checkpoint_close(c);
        return code;
    }
    *out = c;
    return FLO_OK;
}

void checkpoint_close(checkpoint *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->n_tensors; i++) {
        free((char *)c->tensors[i].name);
    }
    for (int32_t i = 0; i < c->n_shards; i++) {
        if (c->shards[i].fd >= 0) {
            close(c->shards[i].fd);
        }
        free(c->shards[i].name);
        free(c->shards[i].path);
    }
    free(c->tensors);
    free(c->shards);
    free(c);
}

/* ---- questions ---- */

size_t checkpoint_count(const checkpoint *c)
{
    return c->n_tensors;
}

const checkpoint_tensor *checkpoint_at(const checkpoint *c, size_t i)
{
    CHECK(i < c->n_tensors);
    return &c->tensors[i];
}

const checkpoint_tensor *checkpoint_find(const checkpoint *c, const char *name)
{
    if (c->n_tensors == 0) {
        return NULL;
    }
    checkpoint_tensor key = {.name = name};
    return bsearch(&key, c->tensors, c->n_tensors, sizeof key, by_name);
}

const char *checkpoint_file_name(const checkpoint *c, int32_t file)
{
    CHECK(file >= 0 && file < c->n_shards);
    return c->shards[file].name;
}

flo_code checkpoint_read(const checkpoint *c, const checkpoint_tensor *t, uint64_t first_byte,
                         void *out, size_t n_bytes, flo_err *err)
{
    CHECK(first_byte <= t->n_bytes && n_bytes <= t->n_bytes - first_byte);
    const shard *s = &c->shards[t->file];
    uint64_t at = t->offset + first_byte;
    if (n_bytes >= READ_AHEAD_BYTES) {
        /* Only a hint: the disk queue is full from the first byte on, not after some detection. */
        posix_fadvise(s->fd, (off_t)at, (off_t)n_bytes, POSIX_FADV_WILLNEED);
    }
    flo_code code = read_bytes(s, at, out, n_bytes, err);
    if (code != FLO_OK) {
        flo_context(err, "%s: tensor %s", s->path, t->name);
    }
    return code;
}

/* ---- telling checkpoints apart ---- */

enum { SAMPLED_TENSORS = 64, SAMPLE_BYTES = 256 };

flo_code checkpoint_fingerprint(const checkpoint *c, uint64_t *out, flo_err *err)
{
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const checkpoint_tensor *t = &c->tensors[i];
        hash = hash_bytes(hash, t->name, strlen(t->name) + 1);
        hash = hash_bytes(hash, &t->dtype, sizeof t->dtype);
        hash = hash_bytes(hash, t->shape, (size_t)t->n_dims * sizeof t->shape[0]);
    }
    for (size_t k = 0; k < SAMPLED_TENSORS && c->n_tensors > 0; k++) {
        const checkpoint_tensor *t = &c->tensors[k * c->n_tensors / SAMPLED_TENSORS];
        unsigned char sample[SAMPLE_BYTES];
        size_t n = t->n_bytes < sizeof sample ? (size_t)t->n_bytes : sizeof sample;
        flo_code code = checkpoint_read(c, t, (t->n_bytes - n) / 2, sample, n, err);
        if (code != FLO_OK) {
            return code;
        }
        hash = hash_bytes(hash, sample, n);
    }
    *out = hash;
    return FLO_OK;
}
