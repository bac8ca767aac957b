/*
 * spoken_answers.h - the files of a chat's spoken answers: answer-1.wav, answer-2.wav, ...
 *
 * Numbers that are taken, by an earlier chat or anything else, are left out: no sound is lost to
 * another.
 */
#ifndef FLOTILLA_LAUNCH_SPOKEN_ANSWERS_H
#define FLOTILLA_LAUNCH_SPOKEN_ANSWERS_H

#include "common/error.h"

/* What the names begin with, "talks/answer"; the caller frees *stem. where: a folder (answer-1.wav
 * in it), or the beginning itself (talk: talk-1.wav); "": the current folder. FLO_USAGE: no files
 * can be made there, or "-". */
flo_code spoken_answers_find(char **stem, const char *where, flo_err *err);

/* The first name of these that nothing has yet; the caller frees it. */
char *spoken_answers_next(const char *stem);

#endif
