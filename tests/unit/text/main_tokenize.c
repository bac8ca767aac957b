/*
 * main_tokenize.c - the two commands as a program of their own, for tests of the command line.
 */
#include "coordinator/commands.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    flo_err err = {""};
    if (argc < 2) {
        return FLO_USAGE;
    }
    flo_code code = strcmp(argv[1], "detokenize") == 0
                        ? command_detokenize(argc - 1, argv + 1, &err)
                        : command_tokenize(argc - 1, argv + 1, &err);
    if (code != FLO_OK) {
        fprintf(stderr, "flotilla: %s\n", err.text);
    }
    return (int)code;
}
