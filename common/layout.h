/*
 * layout.h - sizes of blocks in memory that both the plan and the kernels must know.
 */
#ifndef FLOTILLA_COMMON_LAYOUT_H
#define FLOTILLA_COMMON_LAYOUT_H

enum {
    PANEL_ROWS = 64,             /* rows of a packed weight panel (worker/kernels/matmul.h) */
    HEAD_DIM_MAX = 512,          /* entries of an attention head that the kernels have room for */
    KV_BLOCK = 64,               /* positions of a KV-cache block (worker/kernels/attention.h) */
    LM_HEAD_GRAIN = 1024,        /* rows of the LM head whose exponentials are summed together */
    STEP_ROWS_MAX = 512,         /* token rows of one step over all sequences */
    SEQUENCES_MAX = 256,         /* sequences with a KV cache, working or kept for later turns */
    HEAD_ROWS_MAX = 16,          /* rows whose logits are made at a time */
    WORKER_THREADS_MAX = 1024,   /* of a worker */
    AUDIO_JOB_WINDOWS = 5,       /* attention windows of a sound that are encoded as one job */
    ENCODE_PART_BYTES = 8 << 20, /* of an encoder's input in one message, at most */
    EMBEDDINGS_PART_BYTES = 1 << 20, /* of its result, about */
    SPEAKERS_MAX = 32,               /* answers that are spoken at a time */
    CODE_GROUPS_MAX = 64,            /* codes of a frame of speech */
    SPEECH_PART_BYTES = 1 << 20,     /* of sound or of rows that are dumped, in one message */
    VOCODER_FRAMES_MAX = 32,         /* frames that go through the vocoder together */
    FRAME_SAMPLES_MAX = 1 << 16,     /* of a frame of speech; the published model has 1,920 */
    CUT_FRAMES = 300,                /* the reference decodes so many frames at a time, */
    CUT_CONTEXT_FRAMES = 25,         /* and so many before them again for context */
};

#endif
