/*
 * commands.h - commands of `flotilla` that run in the coordinator's program without an MPI job.
 *
 * Each reads its own command line (argv[0] is the command's name), writes its result to standard
 * output when all of it has succeeded, and returns the exit status as a flo_code with its sentence.
 */
#ifndef FLOTILLA_COORDINATOR_COMMANDS_H
#define FLOTILLA_COORDINATOR_COMMANDS_H

#include "common/error.h"

/* tokenize [--model DIR] [--no-special] [--count] (TEXT | --file F | --messages FILE
 * [--no-generation-prompt] | --jsonl); --model as in common/model_folder.h. */
flo_code command_tokenize(int argc, char **argv, flo_err *err);

/* detokenize [--model DIR] [--skip-special] (1,2,3 | --jsonl) */
flo_code command_detokenize(int argc, char **argv, flo_err *err);

/* template --file T.jinja --context C.json */
flo_code command_template(int argc, char **argv, flo_err *err);

#endif
