/*
 * picture_gif.c - the first frame of a GIF through giflib, on its screen.
 *
 * As Pillow has it: a frame that reaches over the screen widens it; what the frame leaves free has
 * the transparent colour, or colour 0 where none is; transparent is white here. Only the records up
 * to the first frame are read.
 */
#include "coordinator/media/picture_formats.h"

#include <gif_lib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NO_TRANSPARENT = -1 };

typedef struct gif_reader {
    const uint8_t *bytes;
    size_t n_bytes, at;
    GifFileType *gif;
    int32_t transparent; /* colour of the first frame */
} gif_reader;

static int read_bytes(GifFileType *gif, GifByteType *out, int n)
{
    gif_reader *r = gif->UserData;
    size_t left = r->n_bytes - r->at;
    size_t taken = (size_t)n < left ? (size_t)n : left;
    memcpy(out, r->bytes + r->at, taken);
    r->at += taken;
    return (int)taken;
}

static flo_code damaged(flo_err *err, int code)
{
    const char *what = GifErrorString(code);
    return flo_fail(err, FLO_USAGE, "a GIF that is damaged or cut short%s%s",
                    what != NULL ? ": " : "", what != NULL ? what : "");
}

/* Reads one extension; keeps what a graphics control block says of transparency. */
static bool read_extension(gif_reader *r)
{
    int kind;
    GifByteType *block;
    bool good = DGifGetExtension(r->gif, &kind, &block) == GIF_OK;
    if (good && block != NULL && kind == GRAPHICS_EXT_FUNC_CODE && block[0] >= 4) {
        r->transparent = block[1] & 1 ? block[4] : NO_TRANSPARENT;
    }
    while (good && block != NULL) {
        good = DGifGetExtensionNext(r->gif, &block) == GIF_OK;
    }
    return good;
}

/* Reads on to the first frame's description, gif->Image. */
static flo_code find_frame(gif_reader *r, flo_err *err)
{
    for (;;) {
        GifRecordType record;
        if (DGifGetRecordType(r->gif, &record) != GIF_OK) {
            return damaged(err, r->gif->Error);
        }
        if (record == TERMINATE_RECORD_TYPE) {
            return flo_fail(err, FLO_USAGE, "a GIF without a picture in it");
        }
        if (record == IMAGE_DESC_RECORD_TYPE) {
            return DGifGetImageDesc(r->gif) == GIF_OK ? FLO_OK : damaged(err, r->gif->Error);
        }
        if (record == EXTENSION_RECORD_TYPE && !read_extension(r)) {
            return damaged(err, r->gif->Error);
        }
    }
}

static picture_facts facts_of(const GifFileType *gif)
{
    int64_t right = (int64_t)gif->Image.Left + gif->Image.Width;
    int64_t bottom = (int64_t)gif->Image.Top + gif->Image.Height;
    return (picture_facts){.width = right > gif->SWidth ? right : gif->SWidth,
                           .height = bottom > gif->SHeight ? bottom : gif->SHeight,
                           .orientation = 1};
}

/* What each index looks like: the frame's own colours, else the file's, else greys. */
static void fill_colours(uint8_t colours[256][3], const gif_reader *r)
{
    const ColorMapObject *map =
        r->gif->Image.ColorMap != NULL ? r->gif->Image.ColorMap : r->gif->SColorMap;
    for (int32_t i = 0; i < 256; i++) {
        memset(colours[i], map == NULL ? i : 0, 3);
        if (map != NULL && i < map->ColorCount) {
            colours[i][0] = map->Colors[i].Red;
            colours[i][1] = map->Colors[i].Green;
            colours[i][2] = map->Colors[i].Blue;
        }
    }
    if (r->transparent != NO_TRANSPARENT) {
        memset(colours[r->transparent], 255, 3);
    }
}

static void fill_canvas(uint8_t *rgb, const picture_facts *f, const uint8_t colour[3])
{
    for (int64_t i = 0; i < f->width * f->height; i++) {
        memcpy(rgb + 3 * i, colour, 3);
    }
}

/* Row of the frame that comes next; interlaced ones come in four rounds. */
static int32_t next_row(int32_t row, int32_t height, bool interlaced, int32_t *round)
{
    static const int32_t first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
    if (!interlaced) {
        return row + 1;
    }
    row += step[*round];
    while (row >= height && *round < 3) {
        row = first[++*round];
    }
    return row;
}

static flo_code read_frame(uint8_t *rgb, const picture_facts *f, gif_reader *r, uint8_t *line,
                           uint8_t colours[256][3], flo_err *err)
{
    const GifImageDesc *frame = &r->gif->Image;
    int32_t row = 0, round = 0;
    for (int32_t i = 0; i < frame->Height; i++) {
        if (DGifGetLine(r->gif, line, frame->Width) != GIF_OK) {
            return damaged(err, r->gif->Error);
        }
        uint8_t *out = rgb + 3 * ((frame->Top + row) * f->width + frame->Left);
        for (int32_t x = 0; x < frame->Width; x++) {
            memcpy(out + 3 * (int64_t)x, colours[line[x]], 3);
        }
        row = next_row(row, frame->Height, frame->Interlace, &round);
    }
    return FLO_OK;
}

static flo_code gif_open(gif_reader *r, const uint8_t *bytes, size_t n_bytes, flo_err *err)
{
    int error = 0;
    *r = (gif_reader){.bytes = bytes, .n_bytes = n_bytes, .transparent = NO_TRANSPARENT};
    r->gif = DGifOpen(r, read_bytes, &error);
    if (r->gif == NULL) {
        return damaged(err, error);
    }
    flo_code code = find_frame(r, err);
    if (code != FLO_OK) {
        DGifCloseFile(r->gif, NULL);
    }
    return code;
}

flo_code gif_facts(picture_facts *f, const uint8_t *bytes, size_t n_bytes, flo_err *err)
{
    gif_reader r;
    flo_code code = gif_open(&r, bytes, n_bytes, err);
    if (code == FLO_OK) {
        *f = facts_of(r.gif);
        DGifCloseFile(r.gif, NULL);
    }
    return code;
}

flo_code gif_pixels(uint8_t *rgb, const picture_facts *f, const uint8_t *bytes, size_t n_bytes,
                    flo_err *err)
{
    gif_reader r;
    flo_code code = gif_open(&r, bytes, n_bytes, err);
    if (code != FLO_OK) {
        return code;
    }
    uint8_t colours[256][3];
    uint8_t *line = malloc((size_t)r.gif->Image.Width + 1);
    picture_facts now = facts_of(r.gif);
    if (line == NULL) {
        code = flo_fail(err, FLO_FAIL, "no memory to read a GIF");
    } else if (now.width != f->width || now.height != f->height) {
        code = flo_fail(err, FLO_USAGE, "a GIF that changed while it was read");
    } else {
        fill_colours(colours, &r);
        fill_canvas(rgb, f, colours[r.transparent != NO_TRANSPARENT ? r.transparent : 0]);
        code = read_frame(rgb, f, &r, line, colours, err);
    }
    free(line);
    DGifCloseFile(r.gif, NULL);
    return code;
}
