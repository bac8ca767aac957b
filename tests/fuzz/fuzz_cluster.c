/*
 * fuzz_cluster.c - whatever a cluster file or hostfile holds, it is refused with a sentence or
 * becomes a cluster in which every rank has a seat.
 */
#include "common/cluster.h"

#include <stdlib.h>
#include <string.h>

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

static void check_cluster(cluster *c, flo_code code, const flo_err *err)
{
    flo_err ignored;
    require(code == FLO_OK || (code == FLO_USAGE && err->text[0] != '\0' && c->hosts == NULL));
    if (code == FLO_OK && cluster_deal(c, 0, 2, &ignored) == FLO_OK) {
        for (int32_t rank = 1; rank <= cluster_workers(c); rank++) {
            cluster_seat seat = cluster_seat_of(c, rank);
            require(seat.place >= 0 && seat.place < seat.places &&
                    seat.places <= cluster_workers(c));
            require(cluster_host_name_is_valid(seat.host->name));
        }
        require(cluster_deal(c, 1, 2, &ignored) == FLO_OK && cluster_workers(c) == 1);
    }
    cluster_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    cluster c;
    flo_err err = {""};
    check_cluster(&c, cluster_parse(&c, (const char *)data, n_bytes, &err), &err);
    err.text[0] = '\0';
    check_cluster(&c, cluster_parse_hostfile(&c, (const char *)data, n_bytes, &err), &err);
    return 0;
}
