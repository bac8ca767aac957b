/*
 * fuzz_sound.c - whatever a file holds, it is refused with a sentence or becomes finite samples.
 */
#include "common/check.h"
#include "coordinator/media/extent.h"
#include "coordinator/media/sound.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    sound s = {NULL, 0};
    flo_err err = {""};
    bool none;
    uint8_t *bytes = malloc(n > 0 ? n : 1); /* of the exact size, so that reading past it is seen */
    CHECK(bytes != NULL);
    memcpy(bytes, data, n);
    flo_code code = sound_decode(&s, bytes, n, "fuzz", &none, NULL, &err);
    CHECK(code == FLO_OK || strncmp(err.text, "fuzz: ", 6) == 0);
    CHECK(code != FLO_OK || (s.n >= SOUND_SAMPLES_MIN && media_extent(bytes, n) <= n && !none));
    for (int64_t i = 0; i < s.n; i++) {
        CHECK(isfinite(s.samples[i]));
    }
    sound_free(&s);
    free(bytes);
    return 0;
}
