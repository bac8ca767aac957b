/*
 * encoder_key.c - the key of a job, by libavutil's SHA-256.
 */
#include "coordinator/media/encoder_key.h"

#include <libavutil/mem.h>
#include <libavutil/sha.h>

enum { DIGEST_BITS = 256 };

/* The length, little-endian on every machine, then the bytes. */
static void add_part(struct AVSHA *sha, const encoder_key_part *part)
{
    uint8_t length[8];
    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)((uint64_t)part->n_bytes >> (8 * i));
    }
    av_sha_update(sha, length, sizeof length);
    if (part->n_bytes > 0) {
        av_sha_update(sha, part->bytes, part->n_bytes);
    }
}

flo_code encoder_key_make(encoder_key *key, const encoder_key_part *parts, int32_t n, flo_err *err)
{
    struct AVSHA *sha = av_sha_alloc();
    if (sha == NULL || av_sha_init(sha, DIGEST_BITS) != 0) {
        av_free(sha);
        return flo_fail(err, FLO_FAIL, "out of memory for the key of a medium");
    }
    for (int32_t i = 0; i < n; i++) {
        add_part(sha, &parts[i]);
    }
    av_sha_final(sha, key->digest);
    av_free(sha);
    return FLO_OK;
}
