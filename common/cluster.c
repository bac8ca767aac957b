/*
 * cluster.c - JSON, host lists and hostfiles into one struct, by tables of fields.
 *
 * A table says for each key where its value goes and what it may be; one reader serves the file,
 * its hosts and its pins, so every fault has the same form: "hosts[2].memory: ...".
 */
#include "common/cluster.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/json.h"
#include "common/layout.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names */

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool consists_of(const char *text, const char *others)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (!is_alphanumeric(*p) && strchr(others, *p) == NULL) {
            return false;
        }
    }
    return true;
}

bool cluster_host_name_is_valid(const char *name)
{
    return is_alphanumeric(name[0]) && strlen(name) <= 253 && consists_of(name, ".-_");
}

bool cluster_host_is_local(const char *name)
{
    char own[256] = "";
    if (strcmp(name, "localhost") == 0 || strncmp(name, "127.", 4) == 0) {
        return true;
    }
    if (gethostname(own, sizeof own - 1) != 0 || own[0] == '\0') {
        return false;
    }
    size_t n = strcspn(own, ".");
    return strcmp(name, own) == 0 || (strncmp(name, own, n) == 0 && name[n] == '\0');
}

static const cluster_host *host_find(const cluster *c, const char *name)
{
    for (int32_t i = 0; i < c->n_hosts; i++) {
        if (strcmp(c->hosts[i].name, name) == 0) {
            return &c->hosts[i];
        }
    }
    return NULL;
}

/* Fields */

typedef enum field_kind {
    FIELD_TEXT,    /* char [max], no control characters */
    FIELD_HOST,    /* char [256], a host name */
    FIELD_NETWORK, /* char [64], an interface or CIDR */
    FIELD_INTEGER, /* int32_t in [min, max] */
    FIELD_NUMBER,  /* double in (min, max] */
    FIELD_BYTES,   /* uint64_t over 0: number or "24G" */
    FIELD_CHOICE,  /* int32_t, index in choices */
    FIELD_NUMA,    /* cluster_host: n_numa, numa */
    FIELD_LIST,    /* an array that the caller reads */
} field_kind;

typedef struct field {
    const char *key;
    field_kind kind;
    size_t offset; /* in the struct */
    double min, max;
    const char *const *choices;
    bool required;
} field;

static const char *const weight_names[] = {"bf16", "q8", "q4", NULL};
static const char *const launcher_names[] = {"", "mpirun", "srun", NULL};
static const char *const part_names[] = {"audio_encoder",  "vision_encoder", "talker",
                                         "code_predictor", "code2wav",       NULL};

static const field cluster_fields[] = {
    {.key = "name", .kind = FIELD_TEXT, .offset = offsetof(cluster, name), .max = 256},
    {.key = "weights",
     .kind = FIELD_CHOICE,
     .offset = offsetof(cluster, weights),
     .choices = weight_names},
    {.key = "stages",
     .kind = FIELD_INTEGER,
     .offset = offsetof(cluster, n_stages),
     .min = 1,
     .max = CLUSTER_WORKERS_MAX},
    {.key = "memory", .kind = FIELD_BYTES, .offset = offsetof(cluster, memory_bytes)},
    {.key = "threads",
     .kind = FIELD_INTEGER,
     .offset = offsetof(cluster, n_threads),
     .min = 0,
     .max = WORKER_THREADS_MAX},
    {.key = "model", .kind = FIELD_TEXT, .offset = offsetof(cluster, model), .max = 1024},
    {.key = "cache_dir", .kind = FIELD_TEXT, .offset = offsetof(cluster, cache_dir), .max = 1024},
    {.key = "interface", .kind = FIELD_NETWORK, .offset = offsetof(cluster, interface), .max = 64},
    {.key = "launcher",
     .kind = FIELD_CHOICE,
     .offset = offsetof(cluster, launcher),
     .choices = launcher_names},
    {.key = "hosts", .kind = FIELD_LIST, .required = true},
    {.key = "pins", .kind = FIELD_LIST},
};

static const field host_fields[] = {
    {.key = "host",
     .kind = FIELD_HOST,
     .offset = offsetof(cluster_host, name),
     .max = 256,
     .required = true},
    {.key = "workers",
     .kind = FIELD_INTEGER,
     .offset = offsetof(cluster_host, n_workers),
     .min = 1,
     .max = CLUSTER_WORKERS_MAX},
    {.key = "numa", .kind = FIELD_NUMA},
    {.key = "memory", .kind = FIELD_BYTES, .offset = offsetof(cluster_host, memory_bytes)},
    {.key = "cores",
     .kind = FIELD_INTEGER,
     .offset = offsetof(cluster_host, n_cores),
     .min = 1,
     .max = 65536},
    {.key = "read_gb_per_s",
     .kind = FIELD_NUMBER,
     .offset = offsetof(cluster_host, read_gb_per_s),
     .max = 1e6},
    {.key = "model", .kind = FIELD_TEXT, .offset = offsetof(cluster_host, model), .max = 1024},
};

static const field pin_fields[] = {
    {.key = "part",
     .kind = FIELD_TEXT,
     .offset = offsetof(cluster_pin, part),
     .max = 64,
     .required = true},
    {.key = "host",
     .kind = FIELD_HOST,
     .offset = offsetof(cluster_pin, host),
     .max = 256,
     .required = true},
    {.key = "workers",
     .kind = FIELD_INTEGER,
     .offset = offsetof(cluster_pin, n_workers),
     .min = 1,
     .max = CLUSTER_WORKERS_MAX},
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

_Static_assert(sizeof(cluster_launcher) == sizeof(int32_t), "choices are written as int32_t");

static flo_code read_text(char *out, const field *f, const cJSON *value, flo_err *err)
{
    const char *text = cJSON_GetStringValue(value);
    if (text == NULL) {
        return flo_fail(err, FLO_USAGE, "must be a string");
    }
    if (strlen(text) >= (size_t)f->max) {
        return flo_fail(err, FLO_USAGE, "is longer than %d characters", (int)f->max - 1);
    }
    for (const char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return flo_fail(err, FLO_USAGE, "has a control character in it");
        }
    }
    if (f->kind == FIELD_HOST && !cluster_host_name_is_valid(text)) {
        return flo_fail(err, FLO_USAGE, "\"%s\" is not a host name", text);
    }
    if (f->kind == FIELD_NETWORK && (text[0] == '-' || !consists_of(text, "._-:/"))) {
        return flo_fail(err, FLO_USAGE, "\"%s\" is neither a network interface nor a CIDR", text);
    }
    strcpy(out, text);
    return FLO_OK;
}

static flo_code read_number(double *out, const field *f, const cJSON *value, bool whole,
                            flo_err *err)
{
    double x = value->valuedouble;
    bool in_range = cJSON_IsNumber(value) && isfinite(x) && x <= f->max &&
                    (whole ? x >= f->min && floor(x) == x : x > f->min);
    if (!in_range) {
        return whole ? flo_fail(err, FLO_USAGE, "must be a whole number from %.0f to %.0f", f->min,
                                f->max)
                     : flo_fail(err, FLO_USAGE, "must be a number over %.0f, at most %.0f", f->min,
                                f->max);
    }
    *out = x;
    return FLO_OK;
}

static flo_code read_bytes(uint64_t *out, const cJSON *value, flo_err *err)
{
    uint64_t n = 0;
    double x = value->valuedouble;
    if (cJSON_IsString(value)) {
        flo_code code = bytes_parse(&n, value->valuestring, err);
        if (code != FLO_OK) {
            return code;
        }
    } else if (cJSON_IsNumber(value) && x >= 1 && x < 9e15 && floor(x) == x) {
        n = (uint64_t)x;
    } else {
        return flo_fail(err, FLO_USAGE, "must be a size in bytes, such as \"24G\" or 25769803776");
    }
    if (n == 0) {
        return flo_fail(err, FLO_USAGE, "must be more than nothing");
    }
    *out = n;
    return FLO_OK;
}

/* Index of text in names; -1 where it is none of them. */
static int32_t choice_of(const char *const *names, const char *text)
{
    for (int32_t i = 0; text != NULL && names[i] != NULL; i++) {
        if (strcmp(names[i], text) == 0) {
            return i;
        }
    }
    return -1;
}

/* "a, b, c" */
static const char *names_joined(char text[256], const char *const *names)
{
    size_t used = 0;
    text[0] = '\0';
    for (int32_t i = 0; names[i] != NULL; i++) {
        if (names[i][0] != '\0') {
            used +=
                (size_t)snprintf(text + used, 256 - used, "%s%s", used > 0 ? ", " : "", names[i]);
        }
    }
    return text;
}

static flo_code read_choice(int32_t *out, const field *f, const cJSON *value, flo_err *err)
{
    char names[256];
    int32_t i = choice_of(f->choices, cJSON_GetStringValue(value));
    if (i < 0) {
        return flo_fail(err, FLO_USAGE, "must be one of %s", names_joined(names, f->choices));
    }
    *out = i;
    return FLO_OK;
}

static flo_code read_numa(cluster_host *h, const cJSON *value, flo_err *err)
{
    int n = cJSON_GetArraySize(value);
    if (!cJSON_IsArray(value) || n < 1 || n > CLUSTER_NUMA_MAX) {
        return flo_fail(err, FLO_USAGE, "must be a list of 1 to %d NUMA nodes", CLUSTER_NUMA_MAX);
    }
    const field node = {.min = 0, .max = 1023};
    const cJSON *item;
    cJSON_ArrayForEach(item, value)
    {
        double x = 0;
        flo_code code = read_number(&x, &node, item, true, err);
        if (code != FLO_OK) {
            flo_context(err, "entry %d", h->n_numa);
            return code;
        }
        h->numa[h->n_numa++] = (int32_t)x;
    }
    return FLO_OK;
}

static flo_code read_field(void *target, const field *f, const cJSON *value, flo_err *err)
{
    void *out = (char *)target + f->offset;
    double x = 0;
    flo_code code = FLO_OK;
    switch (f->kind) {
    case FIELD_TEXT:
    case FIELD_HOST:
    case FIELD_NETWORK:
        return read_text(out, f, value, err);
    case FIELD_INTEGER:
        code = read_number(&x, f, value, true, err);
        if (code == FLO_OK) {
            *(int32_t *)out = (int32_t)x;
        }
        return code;
    case FIELD_NUMBER:
        return read_number(out, f, value, false, err);
    case FIELD_BYTES:
        return read_bytes(out, value, err);
    case FIELD_CHOICE:
        return read_choice(out, f, value, err);
    case FIELD_NUMA:
        return read_numa(target, value, err);
    case FIELD_LIST:
    default:
        return cJSON_IsArray(value) ? FLO_OK : flo_fail(err, FLO_USAGE, "must be a list");
    }
}

/* All keys of one object; place is "hosts[2]" or "". */
static flo_code read_object(void *target, const field *fields, size_t n_fields, const cJSON *object,
                            const char *place, flo_err *err)
{
    if (!cJSON_IsObject(object)) {
        return flo_fail(err, FLO_USAGE, "%s must be an object in braces",
                        place[0] != '\0' ? place : "the whole file");
    }
    const char *dot = place[0] != '\0' ? "." : "";
    uint32_t seen = 0;
    const cJSON *value;
    cJSON_ArrayForEach(value, object)
    {
        size_t i = 0;
        while (i < n_fields && strcmp(fields[i].key, value->string) != 0) {
            i++;
        }
        if (i == n_fields) {
            return flo_fail(err, FLO_USAGE, "%s%s%.64s: unknown key", place, dot, value->string);
        }
        if ((seen & (1u << i)) != 0) {
            return flo_fail(err, FLO_USAGE, "%s%s%s: given twice", place, dot, fields[i].key);
        }
        seen |= 1u << i;
        flo_code code = read_field(target, &fields[i], value, err);
        if (code != FLO_OK) {
            flo_context(err, "%s%s%s", place, dot, fields[i].key);
            return code;
        }
    }
    for (size_t i = 0; i < n_fields; i++) {
        if (fields[i].required && (seen & (1u << i)) == 0) {
            return flo_fail(err, FLO_USAGE, "%s%s%s: missing", place, dot, fields[i].key);
        }
    }
    return FLO_OK;
}

/* The file */

static flo_code read_host(cluster *c, const cJSON *object, flo_err *err)
{
    char place[32];
    snprintf(place, sizeof place, "hosts[%d]", c->n_hosts);
    cluster_host *h = &c->hosts[c->n_hosts];
    flo_code code = read_object(h, host_fields, COUNT(host_fields), object, place, err);
    if (code != FLO_OK) {
        return code;
    }
    if (host_find(c, h->name) != NULL) {
        return flo_fail(err, FLO_USAGE,
                        "%s.host: \"%s\" is there twice; say how many workers it has with"
                        " \"workers\"",
                        place, h->name);
    }
    if (h->n_workers > 0 && h->n_numa > h->n_workers) {
        return flo_fail(err, FLO_USAGE, "%s.numa: %d nodes for %d workers", place, h->n_numa,
                        h->n_workers);
    }
    c->n_hosts++;
    return FLO_OK;
}

static flo_code read_hosts(cluster *c, const cJSON *list, flo_err *err)
{
    int n = cJSON_GetArraySize(list);
    if (n < 1 || n > CLUSTER_HOSTS_MAX) {
        return flo_fail(err, FLO_USAGE, "hosts: must name 1 to %d hosts", CLUSTER_HOSTS_MAX);
    }
    c->hosts = calloc((size_t)n, sizeof *c->hosts);
    if (c->hosts == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for %d hosts", n);
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        flo_code code = read_host(c, item, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

static flo_code read_pin(cluster *c, const cJSON *object, flo_err *err)
{
    char place[32];
    char names[256];
    snprintf(place, sizeof place, "pins[%d]", c->n_pins);
    cluster_pin *pin = &c->pins[c->n_pins];
    flo_code code = read_object(pin, pin_fields, COUNT(pin_fields), object, place, err);
    if (code != FLO_OK) {
        return code;
    }
    if (choice_of(part_names, pin->part) < 0) {
        return flo_fail(err, FLO_USAGE,
                        "%s.part: \"%s\" is not a part that can be pinned: one of %s", place,
                        pin->part, names_joined(names, part_names));
    }
    if (host_find(c, pin->host) == NULL) {
        return flo_fail(err, FLO_USAGE, "%s.host: \"%s\" is not among the hosts", place, pin->host);
    }
    if (pin->n_workers > 0 && strcmp(pin->part, "talker") != 0) {
        return flo_fail(err, FLO_USAGE,
                        "%s.workers: only the talker can be divided, \"%s\" is on one worker",
                        place, pin->part);
    }
    if (cluster_pin_of(c, pin->part) != NULL) {
        return flo_fail(err, FLO_USAGE, "%s.part: \"%s\" is pinned twice", place, pin->part);
    }
    c->n_pins++;
    return FLO_OK;
}

static flo_code read_pins(cluster *c, const cJSON *list, flo_err *err)
{
    int n = cJSON_GetArraySize(list);
    if (n > CLUSTER_PINS_MAX) {
        return flo_fail(err, FLO_USAGE, "pins: at most %d", CLUSTER_PINS_MAX);
    }
    c->pins = calloc((size_t)n + 1, sizeof *c->pins);
    if (c->pins == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for %d pins", n);
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        flo_code code = read_pin(c, item, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

flo_code cluster_parse(cluster *c, const char *text, size_t n_bytes, flo_err *err)
{
    memset(c, 0, sizeof *c);
    cJSON *json = NULL;
    flo_code code = json_parse(&json, text, n_bytes, err);
    if (code != FLO_OK) {
        return FLO_USAGE; /* whoever wrote the file can mend it */
    }
    code = read_object(c, cluster_fields, COUNT(cluster_fields), json, "", err);
    if (code == FLO_OK) {
        code = read_hosts(c, cJSON_GetObjectItemCaseSensitive(json, "hosts"), err);
    }
    if (code == FLO_OK) {
        code = read_pins(c, cJSON_GetObjectItemCaseSensitive(json, "pins"), err);
    }
    cJSON_Delete(json);
    if (code != FLO_OK) {
        cluster_free(c);
    }
    return code;
}

typedef flo_code parse_fn(cluster *c, const char *text, size_t n_bytes, flo_err *err);

static flo_code parse_file(cluster *c, const char *path, parse_fn *parse, const char *what,
                           flo_err *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    memset(c, 0, sizeof *c);
    flo_code code = file_read_text(&text, &n_bytes, path, CLUSTER_FILE_BYTES_MAX, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", what);
        return FLO_USAGE;
    }
    code = parse(c, text, n_bytes, err);
    if (code != FLO_OK) {
        flo_context(err, "%s %s", what, path);
    }
    free(text);
    return code;
}

flo_code cluster_read(cluster *c, const char *path, flo_err *err)
{
    return parse_file(c, path, cluster_parse, "cluster file", err);
}

/* Hosts without a file */

/* One more host; cluster->hosts has room for CLUSTER_HOSTS_MAX. */
static flo_code add_host(cluster *c, const char *name, int32_t n_workers, flo_err *err)
{
    if (!cluster_host_name_is_valid(name)) {
        return flo_fail(err, FLO_USAGE, "\"%.64s\" is not a host name", name);
    }
    if (c->n_hosts == CLUSTER_HOSTS_MAX) {
        return flo_fail(err, FLO_USAGE, "more than %d hosts", CLUSTER_HOSTS_MAX);
    }
    cluster_host *h = &c->hosts[c->n_hosts++];
    strcpy(h->name, name);
    h->n_workers = n_workers;
    return FLO_OK;
}

static flo_code hosts_new(cluster *c, flo_err *err)
{
    memset(c, 0, sizeof *c);
    c->hosts = calloc(CLUSTER_HOSTS_MAX, sizeof *c->hosts);
    return c->hosts != NULL ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory for the hosts");
}

/* A number of workers: digits alone, 1 to CLUSTER_WORKERS_MAX; 0 for anything else. */
static int32_t workers_of(const char *text)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return 0;
    }
    long n = strtol(text, &end, 10);
    return *end == '\0' && n >= 1 && n <= CLUSTER_WORKERS_MAX ? (int32_t)n : 0;
}

/* "a" or "a:2" */
static flo_code add_list_entry(cluster *c, char *entry, flo_err *err)
{
    int32_t n_workers = 0;
    char *colon = strchr(entry, ':');
    if (colon != NULL) {
        *colon = '\0';
        n_workers = workers_of(colon + 1);
        if (n_workers == 0) {
            return flo_fail(err, FLO_USAGE, "\"%.64s:%.64s\": the workers of a host are 1 to %d",
                            entry, colon + 1, CLUSTER_WORKERS_MAX);
        }
    }
    if (host_find(c, entry) != NULL) {
        return flo_fail(err, FLO_USAGE, "\"%s\" is there twice; write %s:2 for two workers on it",
                        entry, entry);
    }
    return add_host(c, entry, n_workers, err);
}

static flo_code parse_list(cluster *c, const char *hosts, flo_err *err)
{
    char *copy = strdup(hosts);
    flo_code code = copy != NULL ? hosts_new(c, err) : flo_fail(err, FLO_FAIL, "out of memory");
    char *rest = copy;
    while (code == FLO_OK && rest != NULL) {
        code = add_list_entry(c, strsep(&rest, ","), err);
    }
    free(copy);
    if (code != FLO_OK) {
        cluster_free(c);
    }
    return code;
}

flo_code cluster_from_hosts(cluster *c, const char *hosts, flo_err *err)
{
    struct stat s;
    memset(c, 0, sizeof *c);
    if (stat(hosts, &s) == 0 && S_ISREG(s.st_mode)) {
        return parse_file(c, hosts, cluster_parse_hostfile, "host file", err);
    }
    if (strchr(hosts, '/') != NULL) {
        return flo_fail(err, FLO_USAGE, "--hosts %s: there is no such file", hosts);
    }
    flo_code code = parse_list(c, hosts, err);
    if (code != FLO_OK) {
        flo_context(err, "--hosts");
    }
    return code;
}

/* "a", "a slots=2", "a slots=2 max_slots=4"; the line's comment is gone. */
static flo_code add_line(cluster *c, char *line, flo_err *err)
{
    char *rest = line;
    char *name = strtok_r(line, " \t\r", &rest);
    if (name == NULL) {
        return FLO_OK;
    }
    int32_t n_workers = 0;
    for (char *word = strtok_r(NULL, " \t\r", &rest); word != NULL;
         word = strtok_r(NULL, " \t\r", &rest)) {
        char *value = strchr(word, '=');
        int32_t n = value != NULL ? workers_of(value + 1) : 0;
        bool is_slots = strncmp(word, "slots=", 6) == 0;
        bool is_bound =
            strncmp(word, "max_slots=", 10) == 0 || strncmp(word, "max-slots=", 10) == 0;
        if (n == 0 || (!is_slots && !is_bound)) {
            return flo_fail(err, FLO_USAGE, "\"%.64s\" is not slots=N with 1 to %d", word,
                            CLUSTER_WORKERS_MAX);
        }
        n_workers = is_slots ? n : n_workers;
    }
    cluster_host *known = (cluster_host *)host_find(c, name);
    if (known == NULL) {
        return add_host(c, name, n_workers, err);
    }
    /* As mpirun reads it: a host on several lines has the slots of all, one where a line says none.
     */
    known->n_workers =
        (known->n_workers > 0 ? known->n_workers : 1) + (n_workers > 0 ? n_workers : 1);
    return known->n_workers <= CLUSTER_WORKERS_MAX
               ? FLO_OK
               : flo_fail(err, FLO_USAGE, "\"%s\" has more than %d slots", name,
                          CLUSTER_WORKERS_MAX);
}

flo_code cluster_parse_hostfile(cluster *c, const char *text, size_t n_bytes, flo_err *err)
{
    flo_code code = hosts_new(c, err);
    char *copy = strndup(text, n_bytes);
    char *rest = copy;
    if (code == FLO_OK && copy == NULL) {
        code = flo_fail(err, FLO_FAIL, "out of memory");
    }
    for (int line = 1; code == FLO_OK && rest != NULL; line++) {
        char *words = strsep(&rest, "\n");
        words[strcspn(words, "#")] = '\0';
        code = add_line(c, words, err);
        if (code != FLO_OK) {
            flo_context(err, "line %d", line);
        }
    }
    free(copy);
    if (code == FLO_OK && c->n_hosts == 0) {
        code = flo_fail(err, FLO_USAGE, "names no host");
    }
    if (code != FLO_OK) {
        cluster_free(c);
    }
    return code;
}

flo_code cluster_this_machine(cluster *c, flo_err *err)
{
    flo_code code = hosts_new(c, err);
    return code == FLO_OK ? add_host(c, "localhost", 0, err) : code;
}

void cluster_free(cluster *c)
{
    free(c->hosts);
    free(c->pins);
    memset(c, 0, sizeof *c);
}

/* Options */

/* What a file may ask for and this version cannot do. */
static flo_code check_built(const cluster *c, flo_err *err)
{
    if (c->weights != 0) {
        return flo_fail(err, FLO_USAGE,
                        "weights: %s is not built yet, bf16 is the only weight format",
                        weight_names[c->weights]);
    }
    if (c->cache_dir[0] != '\0') {
        return flo_fail(err, FLO_USAGE, "cache_dir: the cache of packed weights is not built yet");
    }
    return FLO_OK;
}

static flo_code set_text(char *out, size_t n_bytes, const char *text, const char *option,
                         flo_err *err)
{
    if (text == NULL) {
        return FLO_OK;
    }
    if (strlen(text) >= n_bytes) {
        return flo_fail(err, FLO_USAGE, "%s is longer than %zu characters", option, n_bytes - 1);
    }
    strcpy(out, text);
    return FLO_OK;
}

/* The command line goes before the file, and before what its hosts say. */
static flo_code apply_options(cluster *c, const run_options *o, flo_err *err)
{
    flo_code code = set_text(c->model, sizeof c->model, o->model, "--model", err);
    if (code == FLO_OK) {
        code = set_text(c->interface, sizeof c->interface, o->interface, "--interface", err);
    }
    c->n_stages = o->n_stages > 0 ? (int32_t)o->n_stages : c->n_stages;
    c->n_threads = o->n_threads > 0 ? (int32_t)o->n_threads : c->n_threads;
    c->memory_bytes = o->memory_bytes > 0 ? o->memory_bytes : c->memory_bytes;
    for (int32_t i = 0; i < c->n_hosts; i++) {
        cluster_host *h = &c->hosts[i];
        h->memory_bytes = o->memory_bytes > 0 ? 0 : h->memory_bytes;
        h->model[0] = o->model != NULL ? '\0' : h->model[0];
    }
    return code;
}

flo_code cluster_from_options(cluster *c, const run_options *o, int32_t local_nodes, flo_err *err)
{
    flo_code code = o->cluster != NULL ? cluster_read(c, o->cluster, err)
                    : o->hosts != NULL ? cluster_from_hosts(c, o->hosts, err)
                                       : cluster_this_machine(c, err);
    if (code != FLO_OK) {
        return code;
    }
    code = check_built(c, err);
    if (code == FLO_OK) {
        code = apply_options(c, o, err);
    }
    if (code == FLO_OK) {
        code = cluster_deal(c, (int32_t)o->n_workers, local_nodes, err);
    }
    if (code != FLO_OK) {
        if (o->cluster != NULL) {
            flo_context(err, "cluster file %s", o->cluster);
        }
        cluster_free(c);
    }
    return code;
}

/* Workers */

/* The numbers that hosts have by themselves. */
static void settle_unsaid(cluster *c, int32_t local_nodes)
{
    for (int32_t i = 0; i < c->n_hosts; i++) {
        cluster_host *h = &c->hosts[i];
        if (h->n_workers == 0) {
            int32_t nodes = cluster_host_is_local(h->name) && local_nodes > 1 ? local_nodes : 1;
            h->n_workers = h->n_numa > 0 ? h->n_numa : nodes;
        }
    }
}

/* Rounds over the hosts, one worker each, until all are dealt or no host takes more. */
static int32_t deal_rounds(cluster *c, int32_t n_workers, const int32_t *most)
{
    int32_t left = n_workers;
    for (int32_t taken = 1; left > 0 && taken > 0;) {
        taken = 0;
        for (int32_t i = 0; i < c->n_hosts && left > 0; i++) {
            if (c->hosts[i].n_workers < most[i]) {
                c->hosts[i].n_workers++;
                left--;
                taken++;
            }
        }
    }
    return left;
}

flo_code cluster_deal(cluster *c, int32_t n_workers, int32_t local_nodes, flo_err *err)
{
    if (n_workers > CLUSTER_WORKERS_MAX) {
        return flo_fail(err, FLO_USAGE, "%d workers: at most %d", n_workers, CLUSTER_WORKERS_MAX);
    }
    if (n_workers <= 0) {
        settle_unsaid(c, local_nodes);
        int32_t n = cluster_workers(c);
        return n <= CLUSTER_WORKERS_MAX
                   ? FLO_OK
                   : flo_fail(err, FLO_USAGE, "%d workers: at most %d", n, CLUSTER_WORKERS_MAX);
    }
    int32_t most[CLUSTER_HOSTS_MAX];
    int64_t places = 0;
    for (int32_t i = 0; i < c->n_hosts; i++) {
        most[i] = c->hosts[i].n_workers > 0 ? c->hosts[i].n_workers : CLUSTER_WORKERS_MAX;
        places += most[i];
    }
    if (places < n_workers) {
        return flo_fail(err, FLO_USAGE, "%d workers, but the hosts take %lld", n_workers,
                        (long long)places);
    }
    for (int32_t i = 0; i < c->n_hosts; i++) {
        c->hosts[i].n_workers = 0;
    }
    CHECK(deal_rounds(c, n_workers, most) == 0);
    return FLO_OK;
}

const cluster_pin *cluster_pin_of(const cluster *c, const char *part)
{
    for (int32_t i = 0; i < c->n_pins; i++) {
        if (strcmp(c->pins[i].part, part) == 0) {
            return &c->pins[i];
        }
    }
    return NULL;
}

int32_t cluster_workers(const cluster *c)
{
    int32_t n = 0;
    for (int32_t i = 0; i < c->n_hosts; i++) {
        n += c->hosts[i].n_workers;
    }
    return n;
}

/* Place and places among the workers that wish the same node: the numa list goes round. */
static void place_on_node(cluster_seat *seat, int32_t place)
{
    const cluster_host *h = seat->host;
    seat->numa = h->numa[place % h->n_numa];
    seat->place = 0;
    seat->places = 0;
    for (int32_t i = 0; i < h->n_workers; i++) {
        if (h->numa[i % h->n_numa] == seat->numa) {
            seat->place += i < place;
            seat->places++;
        }
    }
}

cluster_seat cluster_seat_of(const cluster *c, int32_t rank)
{
    int32_t place = rank - 1;
    int32_t i = 0;
    while (i < c->n_hosts && place >= c->hosts[i].n_workers) {
        place -= c->hosts[i++].n_workers;
    }
    CHECK(rank >= 1 && i < c->n_hosts);
    const cluster_host *h = &c->hosts[i];
    int32_t n = h->n_workers;
    cluster_seat seat = {
        .host = h,
        .numa = -1,
        .place = place,
        .places = n,
        .memory_bytes = h->memory_bytes > 0 ? h->memory_bytes : c->memory_bytes,
        .n_cores = h->n_cores > n ? h->n_cores / n + (place < h->n_cores % n) : h->n_cores > 0,
        .read_gb_per_s = h->read_gb_per_s / n,
        .model = h->model[0] != '\0' ? h->model : c->model,
    };
    if (h->n_numa > 0) {
        place_on_node(&seat, place);
    }
    return seat;
}
