/*
 * plan_pins.c - see plan_pins.h.
 */
#include "common/plan_pins.h"

#include "common/plan_parts.h"

#include <stddef.h>

void plan_pin_parts(plan_request *r, const cluster *c)
{
    const char **const hosts[PART_COUNT] = {&r->audio_host, &r->vision_host, &r->talker_host,
                                            &r->predictor_host, &r->code2wav_host};
    for (int part = 0; part < PART_COUNT; part++) {
        const cluster_pin *pin = cluster_pin_of(c, plan_part_name((plan_part)part));
        *hosts[part] = pin != NULL ? pin->host : NULL;
    }
    const cluster_pin *talker = cluster_pin_of(c, plan_part_name(PART_TALKER));
    r->talker_workers = talker != NULL ? talker->n_workers : 0;
}
