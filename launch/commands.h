/*
 * commands.h - the commands of `flotilla` that are done by the program itself, without ranks.
 *
 * Each reads its own options (argv[0] is the command's name), writes its result to standard output
 * and returns the exit status; unless that is FLO_OK the sentence is in *err.
 */
#ifndef FLOTILLA_LAUNCH_COMMANDS_H
#define FLOTILLA_LAUNCH_COMMANDS_H

#include "common/error.h"

/* What a checkpoint folder holds and lacks. FLO_DIFFERS with missing tensors or wrong shapes: the
 * table or document is printed all the same. */
flo_code command_inspect(int argc, char **argv, flo_err *err);

/* Who would hold what, from config.json and the cluster description. FLO_DIFFERS where it does not
 * fit; with --json the document then says why. */
flo_code command_plan(int argc, char **argv, flo_err *err);

#endif
