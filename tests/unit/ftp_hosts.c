// FTP's count of sessions per host, against a plain array as its model.
#include "ftp/hosts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// More hosts than chains, so that chains are long.
enum { HOSTS = 400, HOSTS_ROOM = 100, HOSTS_SESSIONS_MAX = 3, HOSTS_STEPS = 100000 };

// A third each: IPv4, the same form mapped into IPv6, and IPv6.
static void hosts_draw(struct weir_address *address, size_t index)
{
    uint32_t word = (uint32_t)random();
    *address = (struct weir_address){ .size = sizeof address->in6 };
    if (index % 3 == 0) {
        address->in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = word };
        return;
    }
    address->in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6 };
    memcpy(&address->in6.sin6_addr.s6_addr[12], &word, sizeof word);
    if (index % 3 == 1)
        memset(&address->in6.sin6_addr.s6_addr[10], 0xff, 2);
    else
        address->in6.sin6_addr.s6_addr[0] = 0x20;
}

// Whatever is taken and given back in any order, every host has its own count, and what is left at
// the end is freed.
static void sessions_follow_a_model(void **state)
{
    static struct weir_address addresses[HOSTS];
    struct ftp_hosts hosts;
    unsigned model[HOSTS] = { 0 };
    (void)state;
    srandom(11);
    for (size_t i = 0; i < HOSTS; i++)
        hosts_draw(&addresses[i], i);
    assert_int_equal(ftp_hosts_init(&hosts, HOSTS_ROOM), 0);
    for (int step = 0; step < HOSTS_STEPS; step++) {
        unsigned host = (unsigned)random() % HOSTS;
        if (random() & 1) {
            bool taken = ftp_hosts_take(&hosts, &addresses[host], HOSTS_SESSIONS_MAX);
            assert_int_equal(taken, model[host] < HOSTS_SESSIONS_MAX);
            model[host] += taken;
        } else if (model[host]) {
            ftp_hosts_give(&hosts, &addresses[host]);
            model[host]--;
        }
    }
    ftp_hosts_fini(&hosts);
}

// Both forms of an IPv4 address are one host, whatever their ports.
static void both_forms_are_one_host(void **state)
{
    struct ftp_hosts hosts;
    struct weir_address plain, mapped;
    (void)state;
    assert_int_equal(weir_address_parse("192.0.2.1:1", &plain), 0);
    assert_int_equal(weir_address_parse("[::ffff:192.0.2.1]:2", &mapped), 0);
    assert_int_equal(ftp_hosts_init(&hosts, 1), 0);
    assert_true(ftp_hosts_take(&hosts, &plain, 1));
    assert_false(ftp_hosts_take(&hosts, &mapped, 1));
    ftp_hosts_give(&hosts, &mapped);
    assert_true(ftp_hosts_take(&hosts, &mapped, 1));
    ftp_hosts_give(&hosts, &plain);
    ftp_hosts_fini(&hosts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_follow_a_model),
        cmocka_unit_test(both_forms_are_one_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
