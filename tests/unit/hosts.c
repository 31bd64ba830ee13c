// The count of connections per host, against a plain array as its model.
#include "hosts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HOSTS = 300, HOSTS_COUNT_MAX = 3, HOSTS_STEPS = 100000 };

static struct weir_address hosts_address(const char *text)
{
    struct weir_address address;
    assert_int_equal(weir_address_parse(text, &address), 0);
    return address;
}

// A host has count_max places; one that is given back can be taken again.
static void a_host_has_its_places(void **state)
{
    (void)state;
    struct hosts hosts;
    struct weir_address address = hosts_address("192.0.2.1:1000");
    assert_int_equal(hosts_init(&hosts, 16, 2), 0);
    assert_true(hosts_take(&hosts, &address));
    assert_true(hosts_take(&hosts, &address));
    assert_false(hosts_take(&hosts, &address));
    hosts_give(&hosts, &address);
    assert_true(hosts_take(&hosts, &address));
    assert_false(hosts_take(&hosts, &address));
    hosts_fini(&hosts);
}

// The port does not count, and a mapped IPv4 address is the same host.
static void ports_and_mapping_do_not_count(void **state)
{
    (void)state;
    struct hosts hosts;
    struct weir_address first = hosts_address("192.0.2.1:1000");
    struct weir_address port = hosts_address("192.0.2.1:2000");
    struct weir_address mapped = hosts_address("[::ffff:192.0.2.1]:3000");
    struct weir_address other = hosts_address("[2001:db8::1]:1000");
    assert_int_equal(hosts_init(&hosts, 16, 1), 0);
    assert_true(hosts_take(&hosts, &first));
    assert_false(hosts_take(&hosts, &port));
    assert_false(hosts_take(&hosts, &mapped));
    assert_true(hosts_take(&hosts, &other));
    hosts_give(&hosts, &mapped);
    assert_true(hosts_take(&hosts, &port));
    hosts_fini(&hosts);
}

// Whatever is taken and given in any order, every host keeps its own count, also when the table is
// as full as it may be and runs of entries wrap around its end.
static void counts_follow_a_model(void **state)
{
    (void)state;
    struct hosts hosts;
    unsigned model[HOSTS] = { 0 };
    struct weir_address address = hosts_address("10.0.0.0:1");
    uint32_t addresses[HOSTS];
    assert_int_equal(hosts_init(&hosts, HOSTS, HOSTS_COUNT_MAX), 0);
    srandom(7);
    // Neighbours would never meet: what the table multiplies by spreads them evenly.
    for (unsigned host = 0; host < HOSTS; host++)
        addresses[host] = (uint32_t)random();
    for (int step = 0; step < HOSTS_STEPS; step++) {
        unsigned host = (unsigned)random() % HOSTS;
        address.in.sin_addr.s_addr = addresses[host];
        if (random() & 1) {
            bool taken = hosts_take(&hosts, &address);
            assert_int_equal(taken, model[host] < HOSTS_COUNT_MAX);
            model[host] += taken;
        } else if (model[host]) {
            hosts_give(&hosts, &address);
            model[host]--;
        }
    }
    hosts_fini(&hosts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_has_its_places),
        cmocka_unit_test(ports_and_mapping_do_not_count),
        cmocka_unit_test(counts_follow_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
