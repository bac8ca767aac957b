/*
 * check_patches.c - patches in the processor's order with the processor's values, bit for bit,
 * however they are cut into pieces.
 */
#include "common/hash.h"
#include "common/patches.h"
#include "tests/unit/media/pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const vision_config published = {
    .in_channels = 3, .patch_size = 16, .temporal_patch_size = 2, .spatial_merge_size = 2};

enum { PATCH_FLOATS = 3 * 2 * 16 * 16 };

static void fill_levels(float levels[3][256])
{
    for (int32_t c = 0; c < 3; c++) {
        for (int32_t b = 0; b < 256; b++) {
            levels[c][b] = ((float)b - 127.5f) / 127.5f;
        }
    }
}

typedef struct patch_case {
    int32_t width, height, n_frames; /* n_frames 0: a picture */
    char kind[16];
} patch_case;

/* All patches of a case, `piece` of them a call; returns their number. */
static int32_t all_patches(float *out, const patch_case *c, int32_t piece)
{
    float levels[3][256];
    fill_levels(levels);
    size_t frame_bytes = (size_t)c->width * (size_t)c->height * 3;
    int32_t n_frames = c->n_frames > 0 ? c->n_frames : 1;
    uint8_t *frames = malloc(frame_bytes * (size_t)n_frames);
    assert_non_null(frames);
    for (int32_t i = 0; i < n_frames; i++) {
        pattern_fill(frames + (size_t)i * frame_bytes, c->kind, c->width, c->height, i);
    }
    int32_t done = 0, grid = c->width / 16 * (c->height / 16);
    for (int32_t t = 0; t < n_frames; t += 2) {
        patch_source s = {.frames = frames + (size_t)t * frame_bytes,
                          .n_frames = n_frames - t < 2 ? n_frames - t : 2,
                          .grid_h = c->height / 16,
                          .grid_w = c->width / 16,
                          .levels = (const float(*)[256])levels};
        for (int32_t first = 0; first < grid; first += piece) {
            int32_t n = grid - first < piece ? grid - first : piece;
            patches_fill(out + (size_t)(done + first) * PATCH_FLOATS, &s, &published, first, n);
        }
        done += grid;
    }
    free(frames);
    return done;
}

static void hold_to_hash(const patch_case *c, int32_t n_patches, unsigned long long want)
{
    static const int32_t pieces[] = {1, 3, 1000};
    float *out = malloc((size_t)n_patches * PATCH_FLOATS * sizeof *out);
    assert_non_null(out);
    for (int32_t i = 0; i < 3; i++) {
        assert_int_equal(all_patches(out, c, pieces[i]), n_patches);
        uint64_t got = hash_bytes(HASH_START, out, (size_t)n_patches * PATCH_FLOATS * sizeof *out);
        assert_true(got == want);
    }
    free(out);
}

static void patches_are_the_processors(void **state)
{
    (void)state;
    char path[1024], line[256];
    snprintf(path, sizeof path, "%s/tests/golden/pictures/patches.txt",
             getenv("FLOTILLA_SOURCE_DIR"));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    int32_t n = 0;
    while (fgets(line, sizeof line, f) != NULL) {
        patch_case c;
        int32_t n_patches;
        unsigned long long want;
        if (sscanf(line, "%d %d %d %15s %d %llx", &c.width, &c.height, &c.n_frames, c.kind,
                   &n_patches, &want) == 6) {
            hold_to_hash(&c, n_patches, want);
            n++;
        }
    }
    fclose(f);
    assert_int_equal(n, 12);
}

/* Every place of the grid once, and four patches running make one block. */
static void places_go_block_by_block(void **state)
{
    (void)state;
    enum { H = 6, W = 10 };
    int32_t seen[H][W] = {{0}};
    for (int32_t p = 0; p < H * W; p++) {
        int32_t row, column, block_row, block_column;
        patch_place(&row, &column, p, W, 2);
        patch_place(&block_row, &block_column, p / 4 * 4, W, 2);
        assert_in_range(row, 0, H - 1);
        assert_in_range(column, 0, W - 1);
        assert_int_equal(seen[row][column]++, 0);
        assert_int_equal(row, block_row + p % 4 / 2);
        assert_int_equal(column, block_column + p % 2);
        assert_int_equal(p / 4, block_row / 2 * (W / 2) + block_column / 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patches_are_the_processors),
        cmocka_unit_test(places_go_block_by_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
