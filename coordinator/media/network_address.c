/*
 * network_address.c - public addresses, by the registries of special-purpose ones.
 *
 * IPv4: all but a list. IPv6: only 2000::/3, the one block of which public addresses are given out,
 * and of that all but a list; so that a block which gets a meaning tomorrow is refused today.
 *
 * Source: IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890).
 */
#include "coordinator/media/network_address.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define IPV4(a, b, c, d)                                                                           \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

typedef struct block4 {
    uint32_t first;
    int n_bits;
} block4;

static const block4 NOT_PUBLIC4[] = {
    {IPV4(0, 0, 0, 0), 8},        /* this network; Linux takes 0.0.0.0 for loopback */
    {IPV4(10, 0, 0, 0), 8},       /* private */
    {IPV4(100, 64, 0, 0), 10},    /* carriers' shared space */
    {IPV4(127, 0, 0, 0), 8},      /* loopback */
    {IPV4(168, 63, 129, 16), 32}, /* Azure's host, seen from its guests alone */
    {IPV4(169, 254, 0, 0), 16},   /* link-local; providers' metadata services */
    {IPV4(172, 16, 0, 0), 12},    /* private */
    {IPV4(192, 0, 0, 0), 24},     /* protocol assignments */
    {IPV4(192, 0, 2, 0), 24},     /* documentation */
    {IPV4(192, 31, 196, 0), 24},  /* AS112: answered by the nearest site */
    {IPV4(192, 52, 193, 0), 24},  /* multicast relays, likewise */
    {IPV4(192, 88, 99, 0), 24},   /* 6to4 relays */
    {IPV4(192, 168, 0, 0), 16},   /* private */
    {IPV4(192, 175, 48, 0), 24},  /* AS112 */
    {IPV4(198, 18, 0, 0), 15},    /* benchmarks */
    {IPV4(198, 51, 100, 0), 24},  /* documentation */
    {IPV4(203, 0, 113, 0), 24},   /* documentation */
    {IPV4(224, 0, 0, 0), 4},      /* multicast */
    {IPV4(240, 0, 0, 0), 4},      /* reserved, and broadcast */
};

typedef struct block6 {
    uint8_t first[16];
    int n_bits;
} block6;

static const block6 GIVEN_OUT6 = {{0x20}, 3};

static const block6 NOT_PUBLIC6[] = {
    {{0x20, 0x01}, 23},                   /* protocols: Teredo, benchmarks, ORCHID */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},       /* documentation */
    {{0x20, 0x02}, 16},                   /* 6to4: any IPv4 address, by way of a relay */
    {{0x26, 0x20, 0x00, 0x4f, 0x80}, 48}, /* AS112 */
    {{0x3f, 0xff}, 20},                   /* documentation */
};

/* Blocks whose last four bytes are the IPv4 address that is meant. */
static const block6 CARRIES_IPV4[] = {
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96}, /* IPv4-mapped */
    {{0x00, 0x64, 0xff, 0x9b}, 96},                   /* NAT64: how hosts without IPv4 reach it */
};

#define N_OF(table) (sizeof(table) / sizeof(table)[0])

static bool ipv4_is_public(uint32_t a)
{
    for (size_t i = 0; i < N_OF(NOT_PUBLIC4); i++) {
        uint32_t mask = UINT32_MAX << (32 - NOT_PUBLIC4[i].n_bits);
        if ((a & mask) == NOT_PUBLIC4[i].first) {
            return false;
        }
    }
    return true;
}

static bool block6_has(const block6 *block, const uint8_t a[16])
{
    int n_whole = block->n_bits / 8, n_more = block->n_bits % 8;
    if (memcmp(a, block->first, (size_t)n_whole) != 0) {
        return false;
    }
    return n_more == 0 || (a[n_whole] ^ block->first[n_whole]) >> (8 - n_more) == 0;
}

static bool ipv6_is_public(const uint8_t a[16])
{
    for (size_t i = 0; i < N_OF(CARRIES_IPV4); i++) {
        if (block6_has(&CARRIES_IPV4[i], a)) {
            return ipv4_is_public(IPV4(a[12], a[13], a[14], a[15]));
        }
    }
    for (size_t i = 0; i < N_OF(NOT_PUBLIC6); i++) {
        if (block6_has(&NOT_PUBLIC6[i], a)) {
            return false;
        }
    }
    return block6_has(&GIVEN_OUT6, a);
}

bool network_address_is_public(const struct sockaddr *address, socklen_t n_bytes)
{
    if (n_bytes < offsetof(struct sockaddr, sa_data)) {
        return false;
    }
    if (address->sa_family == AF_INET && n_bytes >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        return ipv4_is_public(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6 && n_bytes >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in;
        memcpy(&in, address, sizeof in);
        return ipv6_is_public(in.sin6_addr.s6_addr);
    }
    return false;
}
