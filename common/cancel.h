/*
 * cancel.h - a flag that one thread sets and others look at now and then, to give up.
 *
 * Nothing else is passed along with it, so no order of memory is asked for.
 */
#ifndef FLOTILLA_COMMON_CANCEL_H
#define FLOTILLA_COMMON_CANCEL_H

#include <stdbool.h>
#include <stddef.h>

static inline void cancel_set(volatile bool *cancel)
{
    __atomic_store_n(cancel, true, __ATOMIC_RELAXED);
}

/* NULL: a work that nobody cancels. */
static inline bool cancel_is_set(const volatile bool *cancel)
{
    return cancel != NULL && __atomic_load_n(cancel, __ATOMIC_RELAXED);
}

#endif
