// Addresses as text: read, printed and compared.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include "weir.h"

#include <cmocka.h>

// What is printed is what was read, in its shortest form, and reads as the same address again.
static void good_addresses_are_read_and_printed(void **state)
{
    static const struct {
        const char *text, *printed;
        int family;
    } rows[] = {
        { "127.0.0.1:80", NULL, AF_INET },
        { "0.0.0.0:0", NULL, AF_INET },
        { "255.255.255.255:65535", NULL, AF_INET },
        { "10.1.2.3:007", "10.1.2.3:7", AF_INET },
        { "[::1]:80", NULL, AF_INET6 },
        { "[::]:0", NULL, AF_INET6 },
        { "[2001:DB8:0:0:0:0:0:1]:443", "[2001:db8::1]:443", AF_INET6 },
        { "[::ffff:1.2.3.4]:1", NULL, AF_INET6 },
        { "[fe80::1%2]:80", NULL, AF_INET6 },
        { "[fe80::1%4294967295]:80", NULL, AF_INET6 },
        { "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%4294967295]:65535",
          "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535", AF_INET6 },
        { "unix:/run/weir.sock", NULL, AF_UNIX },
        { "unix:relative:1", NULL, AF_UNIX },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct weir_address address, again;
        char text[WEIR_ADDRESS_TEXT_SIZE];

        assert_int_equal(weir_address_parse(rows[i].text, &address), 0);
        assert_int_equal(address.any.sa_family, rows[i].family);
        weir_address_print(&address, text);
        assert_string_equal(text, rows[i].printed ? rows[i].printed : rows[i].text);
        assert_int_equal(weir_address_parse(text, &again), 0);
        assert_memory_equal(&address, &again, sizeof(address));
    }
}

// What is no numeric address with a port, or no path, is -EINVAL, and the result stays untouched.
static void bad_addresses_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        ":",
        ":80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:99999999999999999999999",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1: 1",
        "127.0.0.1:1 ",
        "127.0.0.1:http",
        "127.0.0.1:0x50",
        " 127.0.0.1:80",
        "127.0.0:80",
        "127.0.0.256:80",
        "127.0.0.1.1:80",
        "localhost:80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[::1:80",
        "::1]:80",
        "[]:80",
        "[:80",
        "]:80",
        "[[::1]]:80",
        "[127.0.0.1]:80",
        "[fe80::1%]:80",
        "[fe80::1%eth0]:80",
        "[fe80::1%4294967296]:80",
        "[fe80::1%-1]:80",
        "[%1]:80",
        "[::1]:65536",
        "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%42949672950000]:65535",
        "unix:",
        "unix",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct weir_address address, before;

        memset(&address, 0x55, sizeof(address));
        before = address;
        if (weir_address_parse(rows[i], &address) != -EINVAL)
            fail_msg("\"%s\" was not refused", rows[i]);
        assert_memory_equal(&address, &before, sizeof(address));
    }
}

// A unix path has at most 107 bytes: that long it survives the round trip, one longer is refused.
static void unix_path_is_bounded(void **state)
{
    char text[5 + 108 + 1] = "unix:", printed[WEIR_ADDRESS_TEXT_SIZE];
    struct weir_address address;

    (void)state;
    memset(text + 5, 'p', 107);
    assert_int_equal(weir_address_parse(text, &address), 0);
    weir_address_print(&address, printed);
    assert_string_equal(printed, text);
    text[5 + 107] = 'p';
    assert_int_equal(weir_address_parse(text, &address), -ENAMETOOLONG);
}

// What the kernel reports for unix peers prints without reading beyond it: no path, an abstract
// name, and a path that fills the record and has no final zero.
static void unix_addresses_of_the_kernel_are_printed(void **state)
{
    struct weir_address address = { .un.sun_family = AF_UNIX, .size = sizeof(sa_family_t) };
    char text[WEIR_ADDRESS_TEXT_SIZE];

    (void)state;
    memset(address.un.sun_path, 'x', sizeof(address.un.sun_path));
    weir_address_print(&address, text);
    assert_string_equal(text, "unix:");
    address.size = sizeof(address.un);
    weir_address_print(&address, text);
    assert_int_equal(strlen(text), 5 + sizeof(address.un.sun_path));
    // The kernel counts a path without its end in the whole record as longer than the record.
    address.size = sizeof(address.un) + 1;
    weir_address_print(&address, text);
    assert_int_equal(strlen(text), 5 + sizeof(address.un.sun_path));
    address.un.sun_path[0] = 0;
    weir_address_print(&address, text);
    assert_string_equal(text, "unix:");
}

// What is of no family that weir knows is said to be unknown, such as a peer that nobody asked for.
static void other_families_are_unknown(void **state)
{
    const struct weir_address none = { .size = sizeof(sa_family_t) };
    char text[WEIR_ADDRESS_TEXT_SIZE];

    (void)state;
    weir_address_print(&none, text);
    assert_string_equal(text, "unknown");
}

// Hosts are compared without ports, through the IPv4-mapped form, and per link.
static void same_host_ignores_port_and_form(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        { "127.0.0.1:1", "127.0.0.1:2", true },
        { "127.0.0.1:1", "127.0.0.2:1", false },
        { "[::ffff:127.0.0.1]:1", "127.0.0.1:9", true },
        { "[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:2", true },
        { "[::127.0.0.1]:1", "127.0.0.1:1", false },
        { "[::1]:1", "[::1]:2", true },
        { "[::1]:1", "127.0.0.1:1", false },
        { "[fe80::1%1]:1", "[fe80::1%2]:1", false },
        { "[fe80::1%1]:1", "[fe80::1%1]:2", true },
        { "unix:/a", "unix:/b", true },
        { "unix:/a", "127.0.0.1:1", false },
        { "unix:/a", "[::]:1", false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct weir_address a, b;

        assert_int_equal(weir_address_parse(rows[i].a, &a), 0);
        assert_int_equal(weir_address_parse(rows[i].b, &b), 0);
        assert_int_equal(weir_address_same_host(&a, &b), rows[i].same);
        assert_int_equal(weir_address_same_host(&b, &a), rows[i].same);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_addresses_are_read_and_printed),
        cmocka_unit_test(bad_addresses_are_refused),
        cmocka_unit_test(unix_path_is_bounded),
        cmocka_unit_test(unix_addresses_of_the_kernel_are_printed),
        cmocka_unit_test(other_families_are_unknown),
        cmocka_unit_test(same_host_ignores_port_and_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
