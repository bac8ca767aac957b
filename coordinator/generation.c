/*
 * generation.c - names and the end of a generation.
 */
#include "coordinator/generation.h"

#include <stdlib.h>

void generation_clear(generation *g)
{
    free(g->ids);
    free(g->tokens);
    g->ids = NULL;
    g->tokens = NULL;
}

const char *finish_reason_name(finish_reason r)
{
    static const char *const names[] = {"stop", "length", "cancelled", "failed"};
    return names[r];
}
