/*
 * typed_path.h - the name of a file as a person types it in a line, or drops it on a terminal.
 */
#ifndef FLOTILLA_LAUNCH_TYPED_PATH_H
#define FLOTILLA_LAUNCH_TYPED_PATH_H

/* The path that text means: blanks around it do not count, "~/" is the home folder, blanks within
 * stand for themselves. What is no file so, but has quotes or backslashes, is read as a shell would
 * read one word. malloc'd; "" where there is none. */
char *typed_path(const char *text);

#endif
