/*
 * check.h - statements about our own program.
 *
 * A CHECK that fails is a defect of Flotilla, not of its input: it names the place and ends the
 * process (and with it the job). DCHECK is its form for hot paths, gone in release builds.
 */
#ifndef FLOTILLA_COMMON_CHECK_H
#define FLOTILLA_COMMON_CHECK_H

/* Prints "rank N: internal error at FILE:LINE: TEXT" and aborts. */
_Noreturn void flo_check_failed(const char *file, int line, const char *text);

#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : flo_check_failed(__FILE__, __LINE__, #condition))

#ifdef NDEBUG
#define DCHECK(condition) ((void)sizeof(condition))
#else
#define DCHECK(condition) CHECK(condition)
#endif

#endif
