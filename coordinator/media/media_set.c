/*
 * media_set.c - making, listing and freeing.
 */
#include "coordinator/media/media_set.h"

#include <stdlib.h>

const char *media_kind_name(media_kind k)
{
    static const char *const names[] = {"picture", "sound", "video"};
    return names[k];
}

media_item *media_set_add(media_set *s, media_kind kind)
{
    media_item *items = realloc(s->items, ((size_t)s->n + 1) * sizeof *items);
    if (items == NULL) {
        return NULL;
    }
    s->items = items;
    media_item *item = &items[s->n++];
    *item = (media_item){.kind = kind};
    return item;
}

prompt_media media_set_layout(const media_set *s)
{
    return (prompt_media){s->layouts, s->layouts != NULL ? s->n : 0};
}

static void free_inputs(media_item *item)
{
    free(item->frames);
    free(item->features);
    item->frames = NULL;
    item->features = NULL;
    for (int32_t i = 0; i < item->n_parts; i++) {
        item->parts[i].input = NULL;
    }
}

void media_set_free_inputs(media_set *s)
{
    for (int32_t i = 0; i < s->n; i++) {
        free_inputs(&s->items[i]);
    }
}

static void free_item(media_item *item)
{
    free_inputs(item);
    for (int32_t i = 0; i < item->n_parts; i++) {
        encoded_release(item->parts[i].result);
    }
    free(item->parts);
    free(item->samples);
    free(item->reference);
}

void media_set_free(media_set *s)
{
    if (s == NULL) {
        return;
    }
    for (int32_t i = 0; i < s->n; i++) {
        free_item(&s->items[i]);
    }
    free(s->items);
    free(s->layouts);
    free(s);
}

media_kind media_set_sight(const media_set *s)
{
    for (int32_t i = 0; i < s->n; i++) {
        if (s->items[i].kind == MEDIA_VIDEO) {
            return MEDIA_VIDEO;
        }
    }
    return MEDIA_IMAGE;
}
