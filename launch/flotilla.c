/*
 * flotilla.c - the command: finds what is asked for, runs it, says what went wrong.
 *
 * A failure is one line on standard error and the exit status of its kind (common/error.h); after a
 * signal the status is 128 and the signal's number, as shells have it.
 */
#include "launch/commands.h"

#include "common/arguments.h"
#include "common/log.h"
#include "gateway/interrupts.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

typedef struct command {
    const char *name;
    flo_code (*run)(int argc, char **argv, flo_err *err); /* NULL: not built yet */
} command;

static const command commands[] = {
    {"generate", command_generate},
    {"speak", command_speak},
    {"chat", command_chat},
    {"verify", command_verify},
    {"bench", command_bench},
    {"plan", command_plan},
    {"inspect", command_inspect},
    {"tokenize", command_text},
    {"detokenize", command_text},
    {"template", command_text},
    {"batch", NULL},
    {"serve", NULL},
    {"pack", NULL},
    {"doctor", NULL},
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static flo_code unknown_command(const char *word, flo_err *err)
{
    const char *names[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
    }
    const char *near = nearest_name(word, names, N_COMMANDS);
    if (near != NULL) {
        return flo_fail(err, FLO_USAGE, "unknown command '%s'; did you mean '%s'?", word, near);
    }
    return flo_fail(err, FLO_USAGE, "unknown command '%s'; flotilla --help shows all", word);
}

static flo_code run_command(int argc, char **argv, flo_err *err)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[0], commands[i].name) == 0) {
            return commands[i].run != NULL
                       ? commands[i].run(argc, argv, err)
                       : flo_fail(err, FLO_USAGE, "%s is not built yet", commands[i].name);
        }
    }
    return unknown_command(argv[0], err);
}

static flo_code show_version(flo_err *err)
{
    if (printf("flotilla %s\n", FLOTILLA_VERSION) < 0 || fflush(stdout) != 0) {
        return flo_fail(err, FLO_FAIL, "standard output cannot be written");
    }
    return FLO_OK;
}

static flo_code run(int argc, char **argv, flo_err *err)
{
    if (argc < 2) {
        return flo_fail(err, FLO_USAGE, "no command given; flotilla --help shows all");
    }
    if (strcmp(argv[1], "--version") == 0) {
        return show_version(err);
    }
    bool help = strcmp(argv[1], "help") == 0;
    if (help || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        if (help && argc > 2) {
            char *words[] = {argv[2], (char[]){"--help"}, NULL};
            return run_command(2, words, err);
        }
        return command_help(NULL, err);
    }
    if (argv[1][0] == '-') {
        return flo_fail(err, FLO_USAGE, "the command goes first: flotilla COMMAND %s ...", argv[1]);
    }
    return run_command(argc - 1, argv + 1, err);
}

int main(int argc, char **argv)
{
    flo_err err = {""};
    flo_code code = run(argc, argv, &err);
    if (code != FLO_OK && err.text[0] != '\0' && code != FLO_INTERRUPTED) {
        log_error("%s", err.text);
    }
    if (code == FLO_INTERRUPTED && interrupts_last() != 0) {
        return 128 + interrupts_last();
    }
    return (int)code;
}
