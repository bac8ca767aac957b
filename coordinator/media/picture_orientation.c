/*
 * picture_orientation.c - EXIF through libexif, XMP by its words, and eight ways to walk a picture.
 */
#include "coordinator/media/picture_orientation.h"

#include <libexif/exif-data.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t exif_mark[] = {'E', 'x', 'i', 'f', 0, 0};

enum { EXIF_BYTES_MAX = 65536 }; /* a JPEG segment holds less; the tag stands near the beginning */

static int32_t entry_value(const ExifEntry *e, ExifByteOrder order)
{
    if (e == NULL || e->components != 1 || e->data == NULL) {
        return 0;
    }
    switch (e->format) { /* of bytes Pillow takes the signed alone */
    case EXIF_FORMAT_SBYTE:
        return e->size >= 1 ? (int8_t)e->data[0] : 0;
    case EXIF_FORMAT_SHORT:
    case EXIF_FORMAT_SSHORT:
        return e->size >= 2 ? exif_get_short(e->data, order) : 0;
    case EXIF_FORMAT_LONG:
    case EXIF_FORMAT_SLONG:
        return e->size >= 4 ? (int32_t)exif_get_long(e->data, order) : 0;
    default:
        return 0;
    }
}

/* marked begins with exif_mark, as libexif wants it. */
static int32_t orientation_of_marked(const uint8_t *marked, size_t n_bytes)
{
    ExifData *data = exif_data_new();
    if (data == NULL) {
        return 0;
    }
    exif_data_unset_option(data, EXIF_DATA_OPTION_FOLLOW_SPECIFICATION); /* as it was written */
    exif_data_load_data(data, marked, (unsigned)n_bytes);
    ExifContent *first = data->ifd[EXIF_IFD_0];
    int32_t value = entry_value(exif_content_get_entry(first, EXIF_TAG_ORIENTATION),
                                exif_data_get_byte_order(data));
    exif_data_unref(data);
    return value;
}

int32_t orientation_from_exif(const uint8_t *exif, size_t n_bytes)
{
    for (int32_t i = 0; i < 2; i++) { /* some writers put the mark there twice */
        if (n_bytes >= sizeof exif_mark && memcmp(exif, exif_mark, sizeof exif_mark) == 0) {
            exif += sizeof exif_mark;
            n_bytes -= sizeof exif_mark;
        }
    }
    n_bytes = n_bytes < EXIF_BYTES_MAX ? n_bytes : EXIF_BYTES_MAX;
    uint8_t *marked = malloc(sizeof exif_mark + n_bytes);
    if (n_bytes == 0 || marked == NULL) {
        free(marked);
        return 0;
    }
    memcpy(marked, exif_mark, sizeof exif_mark);
    memcpy(marked + sizeof exif_mark, exif, n_bytes);
    int32_t value = orientation_of_marked(marked, sizeof exif_mark + n_bytes);
    free(marked);
    return value;
}

/* Past the next `words` in text; NULL: not there. */
static const uint8_t *past(const uint8_t *text, const uint8_t *end, const char *words)
{
    const uint8_t *at = memmem(text, (size_t)(end - text), words, strlen(words));
    return at != NULL ? at + strlen(words) : NULL;
}

static bool starts(const uint8_t *text, const uint8_t *end, const char *words)
{
    size_t n = strlen(words);
    return (size_t)(end - text) >= n && memcmp(text, words, n) == 0;
}

int32_t orientation_from_xmp(const uint8_t *xmp, size_t n_bytes)
{
    const uint8_t *end = xmp + n_bytes;
    for (const uint8_t *at = xmp; (at = past(at, end, "tiff:Orientation")) != NULL;) {
        size_t skip = starts(at, end, "=\"") ? 2 : starts(at, end, ">") ? 1 : 0;
        if (skip > 0 && (size_t)(end - at) > skip && at[skip] >= '0' && at[skip] <= '9') {
            return at[skip] - '0';
        }
    }
    return 0;
}

/* How a turned picture is read from the stored one: first transposed or not, then mirrored. */
typedef struct walk {
    bool swap, mirror_x, mirror_y; /* of the stored picture's axes */
} walk;

static walk walk_of(int32_t orientation)
{
    static const walk walks[9] = {
        [2] = {.mirror_x = true},
        [3] = {.mirror_x = true, .mirror_y = true},
        [4] = {.mirror_y = true},
        [5] = {.swap = true},
        [6] = {.swap = true, .mirror_y = true},
        [7] = {.swap = true, .mirror_x = true, .mirror_y = true},
        [8] = {.swap = true, .mirror_x = true},
    };
    return orientation >= 1 && orientation <= 8 ? walks[orientation] : (walk){0};
}

bool orientation_swaps(int32_t orientation)
{
    return walk_of(orientation).swap;
}

void orientation_apply(uint8_t *out, const uint8_t *rgb, int32_t width, int32_t height,
                       int32_t orientation)
{
    walk w = walk_of(orientation);
    int64_t step_x = w.mirror_x ? -3 : 3;
    int64_t step_y = (w.mirror_y ? -3 : 3) * (int64_t)width;
    const uint8_t *row = rgb + (w.mirror_x ? 3 * ((int64_t)width - 1) : 0) +
                         (w.mirror_y ? 3 * (int64_t)width * (height - 1) : 0);
    int32_t out_width = w.swap ? height : width;
    int32_t out_height = w.swap ? width : height;
    int64_t along = w.swap ? step_y : step_x, down = w.swap ? step_x : step_y;
    for (int32_t y = 0; y < out_height; y++) {
        const uint8_t *from = row + y * down;
        for (int32_t x = 0; x < out_width; x++, out += 3) {
            memcpy(out, from + x * along, 3);
        }
    }
}
