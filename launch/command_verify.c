/*
 * command_verify.c - `flotilla verify`: the ranks compute reference cases, the coordinator
 * compares.
 */
#include "launch/commands.h"

#include "common/json.h"
#include "launch/front.h"
#include "launch/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct verify_options {
    run_options run;
    const char *golden, *only;
    bool help;
} verify_options;

static flo_code read_options(verify_options *o, int argc, char **argv, flo_err *err)
{
    const argument table[] = {
        {.name = "--golden", .kind = ARGUMENT_TEXT, .out = &o->golden},
        {.name = "--only", .kind = ARGUMENT_TEXT, .out = &o->only},
        {.name = "--help", .kind = ARGUMENT_FLAG, .out = &o->help},
    };
    size_t n = sizeof table / sizeof table[0];
    flo_code code = options_read(&o->run, table, n, &o->help, argc, argv, err);
    if (code != FLO_OK || o->help) {
        return code;
    }
    if (o->golden == NULL) {
        return flo_fail(err, FLO_USAGE, "verify needs --golden DIR, a folder of reference cases");
    }
    struct stat s;
    if (stat(o->golden, &s) != 0 || !S_ISDIR(s.st_mode)) {
        return flo_fail(err, FLO_USAGE, "--golden %s: no such folder", o->golden);
    }
    return options_check(&o->run, err);
}

static flo_code put_sections(buffer *body, const char *only, flo_err *err)
{
    buffer_append_text(body, ",\"only\":[");
    for (const char *p = only; *p != '\0';) {
        size_t n = strcspn(p, ",");
        if (n == 0) {
            return flo_fail(err, FLO_USAGE, "--only %s: an empty name", only);
        }
        buffer_append_text(body, p == only ? "" : ",");
        json_put_string(body, p, n);
        p += n;
        p += *p == ',' && p[1] != '\0';
        if (*p == ',') {
            return flo_fail(err, FLO_USAGE, "--only %s: an empty name", only);
        }
    }
    buffer_append_byte(body, ']');
    return FLO_OK;
}

static flo_code make_body(buffer *body, const verify_options *o, flo_err *err)
{
    char *golden = absolute_path(o->golden);
    flo_code code = FLO_OK;
    buffer_append_text(body, "{\"golden\":");
    json_put_string(body, golden, strlen(golden));
    free(golden);
    if (o->only != NULL) {
        code = put_sections(body, o->only, err);
    }
    buffer_append_byte(body, '}');
    return code;
}

static flo_code show_text(void *arg, const char *text, size_t n_bytes, flo_err *err)
{
    (void)arg;
    return output_write(text, n_bytes, err);
}

flo_code command_verify(int argc, char **argv, flo_err *err)
{
    verify_options o = {0};
    flo_code code = read_options(&o, argc, argv, err);
    if (code != FLO_OK) {
        return code;
    }
    if (o.help) {
        return command_help("verify", err);
    }
    options_set_log(&o.run);
    buffer body = {0};
    front f;
    code = make_body(&body, &o, err);
    if (code == FLO_OK) {
        code = front_open(&f, &o.run, NULL, err);
    }
    if (code == FLO_OK) {
        f.on_text = show_text;
        code = front_ask(&f, "verify", &body, NULL, err);
        front_close(&f);
    }
    buffer_free(&body);
    return code;
}
