/*
 * check_network_address.c - no address that leads back inside is public: the edges of each block,
 * and every way to write an IPv4 address into an IPv6 one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/media/network_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

static bool is_public(const char *text)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    if (inet_pton(AF_INET, text, &in4.sin_addr) == 1) {
        return network_address_is_public((struct sockaddr *)&in4, sizeof in4);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return network_address_is_public((struct sockaddr *)&in6, sizeof in6);
}

static void check_all(const char *const *addresses, bool expected)
{
    for (size_t i = 0; addresses[i] != NULL; i++) {
        if (is_public(addresses[i]) != expected) {
            fail_msg("%s is taken for %s", addresses[i], expected ? "not public" : "public");
        }
    }
}

static void the_first_and_last_of_each_special_block_are_not_public(void **state)
{
    (void)state;
    static const char *const addresses[] = {"0.0.0.0",         "0.255.255.255",
                                            "10.0.0.0",        "10.255.255.255",
                                            "100.64.0.0",      "100.127.255.255",
                                            "127.0.0.0",       "127.0.0.1",
                                            "127.255.255.255", "168.63.129.16",
                                            "169.254.0.0",     "169.254.169.254",
                                            "169.254.255.255", "172.16.0.0",
                                            "172.31.255.255",  "192.0.0.0",
                                            "192.0.0.255",     "192.0.2.0",
                                            "192.0.2.255",     "192.88.99.0",
                                            "192.88.99.255",   "192.168.0.0",
                                            "192.168.255.255", "198.18.0.0",
                                            "198.19.255.255",  "198.51.100.0",
                                            "198.51.100.255",  "203.0.113.0",
                                            "203.0.113.255",   "224.0.0.0",
                                            "239.255.255.255", "240.0.0.0",
                                            "255.255.255.255", NULL};
    check_all(addresses, false);
}

static void their_neighbours_are_public(void **state)
{
    (void)state;
    static const char *const addresses[] = {"1.0.0.0",
                                            "1.1.1.1",
                                            "8.8.8.8",
                                            "9.255.255.255",
                                            "11.0.0.0",
                                            "100.63.255.255",
                                            "100.128.0.0",
                                            "126.255.255.255",
                                            "128.0.0.0",
                                            "168.63.129.15",
                                            "168.63.129.17",
                                            "169.253.255.255",
                                            "169.255.0.0",
                                            "172.15.255.255",
                                            "172.32.0.0",
                                            "191.255.255.255",
                                            "192.0.1.0",
                                            "192.0.1.255",
                                            "192.0.3.0",
                                            "192.167.255.255",
                                            "192.169.0.0",
                                            "198.17.255.255",
                                            "198.20.0.0",
                                            "198.51.99.255",
                                            "198.51.101.0",
                                            "203.0.112.255",
                                            "203.0.114.0",
                                            "223.255.255.255",
                                            NULL};
    check_all(addresses, true);
}

static void ipv6_is_public_in_what_is_given_out_alone(void **state)
{
    (void)state;
    static const char *const inside[] = {"::",
                                         "::1",
                                         "::2",
                                         "100::1",
                                         "1fff:ffff::1",
                                         "2001::1",
                                         "2001:1ff:ffff::1",
                                         "2001:db8::1",
                                         "2001:db8:ffff:ffff::1",
                                         "2002:808:808::1",
                                         "2620:4f:8000::1",
                                         "3fff::1",
                                         "3fff:fff::1",
                                         "4000::1",
                                         "5f00::1",
                                         "fc00::1",
                                         "fd12:3456::1",
                                         "fe80::1",
                                         "febf::1",
                                         "fec0::1",
                                         "ff02::1",
                                         "ff0e::1",
                                         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                                         NULL};
    static const char *const outside[] = {"2000::1",
                                          "2001:200::1",
                                          "2001:4860:4860::8888",
                                          "2001:db7:ffff::1",
                                          "2001:db9::1",
                                          "2003::1",
                                          "2606:4700:4700::1111",
                                          "2620:4f:7fff::1",
                                          "2620:4f:8001::1",
                                          "2a00:1450::1",
                                          "3ffe::1",
                                          "3fff:1000::1",
                                          NULL};
    check_all(inside, false);
    check_all(outside, true);
}

static void an_ipv4_address_inside_an_ipv6_one_is_judged_or_refused(void **state)
{
    (void)state;
    static const char *const inside[] = {"::ffff:127.0.0.1",
                                         "::ffff:10.0.0.1",
                                         "::ffff:169.254.169.254",
                                         "::ffff:0.0.0.0",
                                         "64:ff9b::127.0.0.1",
                                         "64:ff9b::192.168.1.1",
                                         "64:ff9b::a9fe:a9fe",
                                         "64:ff9b:1::8.8.8.8", /* NAT64 of a site's own */
                                         "::127.0.0.1",
                                         "::8.8.8.8", /* IPv4-compatible: no longer in use */
                                         "::ffff:0:127.0.0.1", /* IPv4-translated */
                                         "2002:7f00:1::",
                                         "2002:a9fe:a9fe::1", /* 6to4 */
                                         "2001:0:7f00:1::1",  /* Teredo */
                                         NULL};
    static const char *const outside[] = {"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", NULL};
    check_all(inside, false);
    check_all(outside, true);
}

static void other_families_and_cut_addresses_are_not_public(void **state)
{
    (void)state;
    struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/tmp/x"};
    struct sockaddr_in in4 = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    in4.sin_addr.s_addr = htonl(0x08080808);
    in6.sin6_addr.s6_addr[0] = 0x2a;
    assert_false(network_address_is_public((struct sockaddr *)&local, sizeof local));
    assert_true(network_address_is_public((struct sockaddr *)&in4, sizeof in4));
    assert_true(network_address_is_public((struct sockaddr *)&in6, sizeof in6));
    for (socklen_t n = 0; n < sizeof in4; n++) {
        assert_false(network_address_is_public((struct sockaddr *)&in4, n));
        assert_false(network_address_is_public((struct sockaddr *)&in6, n));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_and_last_of_each_special_block_are_not_public),
        cmocka_unit_test(their_neighbours_are_public),
        cmocka_unit_test(ipv6_is_public_in_what_is_given_out_alone),
        cmocka_unit_test(an_ipv4_address_inside_an_ipv6_one_is_judged_or_refused),
        cmocka_unit_test(other_families_and_cut_addresses_are_not_public),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
