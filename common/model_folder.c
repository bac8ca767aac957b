/*
 * model_folder.c - from `--model` to a folder, by looking at names and links only.
 */
#include "common/model_folder.h"

#include "common/json.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char embedded_name[] = "models/tiny";

/* False where the result does not fit. */
__attribute__((format(printf, 2, 3))) static bool path_format(char out[PATH_MAX],
                                                              const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(out, PATH_MAX, format, args);
    va_end(args);
    return n >= 0 && n < PATH_MAX;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* ---- the embedded model ---- */

/* The folder of the running program; false where the system does not say. */
static bool program_folder(char out[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0) {
        return false;
    }
    out[n] = '\0';
    char *slash = strrchr(out, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = '\0';
    return true;
}

/* PREFIX/bin beside PREFIX/share; then a build folder in the source tree; then the tree it was
 * built from. */
static flo_code find_embedded(char out[PATH_MAX], flo_err *err)
{
    static const char *const beside[] = {"/../share/flotilla/", "/../", "/../../"};
    char program[PATH_MAX];
    bool known = program_folder(program);
    for (size_t i = 0; known && i < sizeof beside / sizeof beside[0]; i++) {
        if (path_format(out, "%s%s%s", program, beside[i], embedded_name) && is_folder(out)) {
            return FLO_OK;
        }
    }
    if (path_format(out, "%s/%s", FLOTILLA_SOURCE, embedded_name) && is_folder(out)) {
        return FLO_OK;
    }
    return flo_fail(
        err, FLO_USAGE,
        "no model: none was given and the embedded one (%s) is neither beside the program "
        "nor in %s; use --model or FLOTILLA_MODEL",
        embedded_name, FLOTILLA_SOURCE);
}

/* ---- the hub's cache ---- */

static bool hub_cache(char out[PATH_MAX])
{
    const char *cache = environment("HF_HUB_CACHE");
    const char *home = environment("HF_HOME");
    const char *xdg = environment("XDG_CACHE_HOME");
    const char *user = environment("HOME");
    if (cache != NULL) {
        return path_format(out, "%s", cache);
    }
    if (home != NULL) {
        return path_format(out, "%s/hub", home);
    }
    if (xdg != NULL) {
        return path_format(out, "%s/huggingface/hub", xdg);
    }
    return path_format(out, "%s/.cache/huggingface/hub", user != NULL ? user : "");
}

static bool is_hub_word(const char *word, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)word[i]) && strchr("-_.", word[i]) == NULL) {
            return false;
        }
    }
    return n > 0 && word[0] != '.' && word[0] != '-';
}

/* ORG/NAME, each of the letters that the hub allows. */
static bool is_hub_name(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash != NULL && is_hub_word(name, (size_t)(slash - name)) &&
           is_hub_word(slash + 1, strlen(slash + 1));
}

/* The snapshot that refs/main names; false where it names none. */
static bool read_main(const char *repository, char hash[128])
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t n = 0;
    flo_err ignored;
    if (!path_format(path, "%s/refs/main", repository) ||
        file_read_text(&text, &n, path, 4096, &ignored) != FLO_OK) {
        return false;
    }
    n = strcspn(text, " \t\r\n");
    bool ok = n < 128 && is_hub_word(text, n);
    if (ok) {
        memcpy(hash, text, n);
        hash[n] = '\0';
    }
    free(text);
    return ok;
}

static flo_code find_in_hub(char out[PATH_MAX], const char *name, flo_err *err)
{
    char cache[PATH_MAX], repository[PATH_MAX], hash[128];
    int n_org = (int)strcspn(name, "/");
    if (!hub_cache(cache) ||
        !path_format(repository, "%s/models--%.*s--%s", cache, n_org, name, name + n_org + 1)) {
        return flo_fail(err, FLO_USAGE, "the path of the hub's cache is too long");
    }
    if (!is_folder(repository)) {
        return flo_fail(err, FLO_USAGE,
                        "%s: no such folder, and not in the hub's cache %s; download it with "
                        "'hf download %s'",
                        name, cache, name);
    }
    if (!read_main(repository, hash) || !path_format(out, "%s/snapshots/%s", repository, hash) ||
        !is_folder(out)) {
        return flo_fail(err, FLO_USAGE,
                        "%s: its copy in the hub's cache (%s) has no finished snapshot under "
                        "refs/main; complete it with 'hf download %s'",
                        name, repository, name);
    }
    return FLO_OK;
}

/* ---- all of it ---- */

flo_code model_folder_find(char out[PATH_MAX], const char *model, flo_err *err)
{
    if (model == NULL || model[0] == '\0') {
        model = environment("FLOTILLA_MODEL");
    }
    if (model == NULL) {
        return find_embedded(out, err);
    }
    struct stat st;
    if (stat(model, &st) == 0) {
        if (!S_ISDIR(st.st_mode)) {
            return flo_fail(err, FLO_USAGE, "%s: not a folder; a model is a checkpoint's folder",
                            model);
        }
        if (!path_format(out, "%s", model)) {
            return flo_fail(err, FLO_USAGE, "%.200s...: the path is too long", model);
        }
        return FLO_OK;
    }
    if (is_hub_name(model)) {
        return find_in_hub(out, model, err);
    }
    return flo_fail(err, FLO_USAGE, "%s: %s", model,
                    errno == ENOENT ? "no such folder" : strerror(errno));
}
