/*
 * commands.h - the commands of `flotilla`.
 *
 * inspect and plan are done by the program itself; generate, speak, chat, verify and bench start a
 * job; tokenize, detokenize and template become the coordinator's program, which has the text
 * parts.
 *
 * Each reads its own options (argv[0] is the command's name), writes its result to standard output
 * and returns the exit status; unless that is FLO_OK the sentence is in *err ("": it was shown).
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

/* One prompt, one answer; a text said aloud; a conversation; reference cases; rates. They start a
 * job and end it. */
flo_code command_generate(int argc, char **argv, flo_err *err);
flo_code command_speak(int argc, char **argv, flo_err *err);
flo_code command_chat(int argc, char **argv, flo_err *err);
flo_code command_verify(int argc, char **argv, flo_err *err);
flo_code command_bench(int argc, char **argv, flo_err *err);

/* tokenize, detokenize, template: runs flotilla-coordinator in place of this program.
 * Returns only on failure. */
flo_code command_text(int argc, char **argv, flo_err *err);

/* The page of a command (NULL: of flotilla itself) to standard output. */
flo_code command_help(const char *command, flo_err *err);

#endif
