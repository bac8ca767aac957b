/*
 * buffers.h - sizes of the memory that a worker takes beside its weights, its KV cache and the
 * transport's buffers: once, before it loads, and nothing later.
 */
#ifndef FLOTILLA_WORKER_BUFFERS_H
#define FLOTILLA_WORKER_BUFFERS_H

#include "common/model_config.h"
#include "common/plan.h"

#include <stddef.h>

typedef struct worker_buffers { /* bytes */
    size_t messages;            /* lists of messages, and logits on their way in the last stage */
    size_t head;                /* head_arena_bytes */
    size_t step;                /* stage_arena_bytes */
    size_t rows;                /* of a step with their deep-stack features, at home; else 0 */
    size_t sounds, pictures;    /* jobs of an encoder that is held here; else 0 */
} worker_buffers;

worker_buffers worker_buffers_of(const model_config *m, const plan *p, const plan_worker *w);

#endif
