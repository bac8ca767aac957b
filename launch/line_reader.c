/*
 * line_reader.c - libedit on a terminal, with a character source of ours; plain read() otherwise.
 */
#include "launch/line_reader.h"

#include "common/buffer.h"
#include "common/check.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

enum { LINE_BYTES_MAX = 16 << 20, HISTORY_LINES = 1000 };

struct line_reader {
    flo_code (*wait)(void *arg, int fd, flo_err *err);
    void *arg;
    EditLine *edit; /* NULL: plain */
    History *history;
    const char *prompt;
    flo_code code; /* of the last wait */
    flo_err cause;
    buffer input; /* plain: bytes read and not yet handed out begin at `first` */
    size_t first;
    bool ended;
};

static char *prompt_of(EditLine *edit)
{
    line_reader *l;
    el_get(edit, EL_CLIENTDATA, &l);
    return (char *)(size_t)l->prompt;
}

/* One character for libedit: 1, or 0 at the end of the input, or where waiting was cut short. */
static int next_character(EditLine *edit, wchar_t *out)
{
    line_reader *l;
    mbstate_t state = {0};
    el_get(edit, EL_CLIENTDATA, &l);
    for (;;) {
        char byte;
        l->code = l->wait(l->arg, STDIN_FILENO, &l->cause);
        if (l->code != FLO_OK) {
            return 0;
        }
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n <= 0) {
            return 0;
        }
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-1) {
            memset(&state, 0, sizeof state); /* a stray byte: skip it */
        } else if (used != (size_t)-2) {
            return 1;
        }
    }
}

static void open_editor(line_reader *l)
{
    HistEvent event;
    if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
    l->edit = el_init("flotilla", stdin, stdout, stderr);
    l->history = history_init();
    CHECK(l->edit != NULL && l->history != NULL);
    history(l->history, &event, H_SETSIZE, HISTORY_LINES);
    history(l->history, &event, H_SETUNIQUE, 1);
    el_set(l->edit, EL_CLIENTDATA, l);
    el_set(l->edit, EL_PROMPT, prompt_of);
    el_set(l->edit, EL_EDITOR, "emacs");
    el_set(l->edit, EL_HIST, history, l->history);
    el_set(l->edit, EL_GETCFN, next_character);
    el_source(l->edit, NULL); /* the user's .editrc */
}

void line_reader_new(line_reader **out, flo_code (*wait)(void *arg, int fd, flo_err *err),
                     void *arg)
{
    line_reader *l = calloc(1, sizeof *l);
    CHECK(l != NULL);
    l->wait = wait;
    l->arg = arg;
    if (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1) {
        open_editor(l);
    }
    *out = l;
}

void line_reader_free(line_reader *l)
{
    if (l == NULL) {
        return;
    }
    if (l->edit != NULL) {
        el_end(l->edit);
        history_end(l->history);
    }
    buffer_free(&l->input);
    free(l);
}

bool line_reader_is_terminal(const line_reader *l)
{
    return l->edit != NULL;
}

static flo_code next_edited(line_reader *l, const char **line, size_t *n_bytes, flo_err *err)
{
    int n = 0;
    l->code = FLO_OK;
    const char *text = el_gets(l->edit, &n);
    if (l->code != FLO_OK) {
        *err = l->cause;
        return l->code;
    }
    *line = NULL;
    if (text == NULL || n <= 0) {
        return FLO_OK;
    }
    HistEvent event;
    if (text[0] != '\n') {
        history(l->history, &event, H_ENTER, text);
    }
    l->input.n = 0;
    buffer_append(&l->input, text, (size_t)n - (text[n - 1] == '\n'));
    buffer_append_byte(&l->input, '\0');
    *line = l->input.at;
    *n_bytes = l->input.n - 1;
    return FLO_OK;
}

/* Hands out the bytes up to `end`, which becomes their NUL. */
static void hand_out(line_reader *l, size_t end, const char **line, size_t *n_bytes)
{
    l->input.at[end] = '\0';
    *line = l->input.at + l->first;
    *n_bytes = end - l->first;
    l->first = end + 1;
}

static flo_code next_plain(line_reader *l, const char **line, size_t *n_bytes, flo_err *err)
{
    size_t looked = l->first;
    for (;;) {
        char *newline =
            l->input.n > looked ? memchr(l->input.at + looked, '\n', l->input.n - looked) : NULL;
        if (newline != NULL) {
            hand_out(l, (size_t)(newline - l->input.at), line, n_bytes);
            return FLO_OK;
        }
        looked = l->input.n;
        if (l->ended) {
            *line = NULL;
            if (l->first < l->input.n) {
                buffer_append_byte(&l->input, '\0');
                hand_out(l, l->input.n - 1, line, n_bytes);
            }
            return FLO_OK;
        }
        if (l->input.n - l->first > LINE_BYTES_MAX) {
            return flo_fail(err, FLO_USAGE, "a line of over %d bytes", LINE_BYTES_MAX);
        }
        flo_code code = l->wait(l->arg, STDIN_FILENO, err);
        if (code != FLO_OK) {
            return code;
        }
        CHECK(buffer_reserve(&l->input, 65536));
        ssize_t n = read(STDIN_FILENO, l->input.at + l->input.n, 65536);
        l->ended = n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN);
        l->input.n += n > 0 ? (size_t)n : 0;
    }
}

flo_code line_reader_next(line_reader *l, const char *prompt, const char **line, size_t *n_bytes,
                          flo_err *err)
{
    l->prompt = prompt;
    if (l->edit != NULL) {
        return next_edited(l, line, n_bytes, err);
    }
    if (l->first > 0) { /* what was handed out before may go now */
        size_t left = l->first < l->input.n ? l->input.n - l->first : 0;
        memmove(l->input.at, l->input.at + l->first, left);
        l->input.n = left;
        l->first = 0;
    }
    return next_plain(l, line, n_bytes, err);
}
