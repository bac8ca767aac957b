/*
 * network_address.h - whether an address belongs to the public network.
 *
 * Who may name a URL may make this machine connect to what it names. Addresses that lead back into
 * the machine, its site or its provider's own services are therefore told apart from public ones.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_NETWORK_ADDRESS_H
#define FLOTILLA_COORDINATOR_MEDIA_NETWORK_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* IPv4 and IPv6 alone; false for every other family, for an address cut short (n_bytes, as in
 * connect(2)), and for all that the registries of special-purpose addresses do not call public.
 * IPv6 addresses that carry an IPv4 one are judged by that, or refused. */
bool network_address_is_public(const struct sockaddr *address, socklen_t n_bytes);

#endif
