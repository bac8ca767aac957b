/*
 * log.h - what the program says about itself, on standard error.
 *
 * One line a message, led by the level where it is not information, and by the rank in a worker:
 *     flotilla: rank 2: warn: could not bind memory to node 1, going on unbound
 * Error: the work was abandoned. Warn: it goes on, worse. Info: a few lines per run. Debug: per
 * object. Trace: per message.
 */
#ifndef FLOTILLA_COMMON_LOG_H
#define FLOTILLA_COMMON_LOG_H

typedef enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE } log_level;

/* The least important level that is still printed (LOG_INFO at start). */
void log_set_level(log_level level);
log_level log_get_level(void);

/* The rank that leads each line; -1 (at start) for none. */
void log_set_rank(int rank);
int log_get_rank(void);

void log_line(log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_trace(...) log_line(LOG_TRACE, __VA_ARGS__)

#endif
