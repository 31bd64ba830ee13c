// Fuzz target: what PORT, EPRT, EPSV and --passive-ports are given. What is accepted is taken apart
// a second time here, field by field, and written and read again.
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "address_text.h"
#include "target.h"

enum { TEXT_MAX = 512, FIELDS_MAX = 8 };

struct field {
    const char *data;
    size_t size;
};

// Splits at every delimiter; returns how many fields there are, of which the first ones are kept.
static size_t split(const char *text, char delimiter, struct field ret_fields[FIELDS_MAX])
{
    size_t count = 0;
    for (const char *begin = text;; begin = text + 1) {
        for (text = begin; *text && *text != delimiter; text++)
            continue;
        if (count < FIELDS_MAX)
            ret_fields[count] = (struct field){ begin, (size_t)(text - begin) };
        count++;
        if (!*text)
            return count;
    }
}

// The number that a field of digits stands for; -1 for anything else, and above `max`.
static long number(struct field field, long max)
{
    long value = 0;
    for (size_t i = 0; i < field.size; i++) {
        if (field.data[i] < '0' || field.data[i] > '9')
            return -1;
        value = value * 10 + (field.data[i] - '0');
        value = value > max ? max + 1 : value;
    }
    return field.size && value <= max ? value : -1;
}

static void require_same(const struct weir_address *a, const struct weir_address *b)
{
    fuzz_require(a->size == b->size && !memcmp(&a->any, &b->any, a->size),
                 "an address that was written is read as another");
}

static void try_port(const char *text)
{
    struct weir_address address, again;
    struct field fields[FIELDS_MAX];
    char written[FTP_HOST_PORT_SIZE];
    long values[6];
    int holds = split(text, ',', fields) == 6;
    for (size_t i = 0; holds && i < 6; i++) {
        values[i] = number(fields[i], 255);
        holds = values[i] >= 0;
    }
    fuzz_require(ftp_address_read_port(text, &address) == holds, "PORT is judged otherwise");
    if (!holds)
        return;
    const uint8_t *host = (const uint8_t *)&address.in.sin_addr;
    for (size_t i = 0; i < 4; i++)
        fuzz_require(host[i] == values[i], "PORT's host is another");
    uint16_t port = ntohs(address.in.sin_port);
    fuzz_require(port == values[4] * 256 + values[5], "PORT's port is another");
    ftp_address_write_port(address.in.sin_addr, port, written);
    fuzz_require(ftp_address_read_port(written, &again), "what is written is refused");
    require_same(&address, &again);
}

// What EPRT's text means: 0 with family, host and port; or why it is refused.
static int extended(const char *text, int *ret_family, char ret_host[TEXT_MAX], long *ret_port)
{
    struct field fields[FIELDS_MAX];
    if (*text <= ' ' || *text > '~' || (*text >= '0' && *text <= '9'))
        return -EINVAL;
    size_t count = split(text + 1, *text, fields);
    long family = count > 1 ? number(fields[0], 65535) : -1;
    if (family < 0)
        return -EINVAL;
    if (family != 1 && family != 2)
        return -EPROTONOSUPPORT;
    *ret_family = family == 1 ? AF_INET : AF_INET6;
    if (count != 4 || fields[3].size || (*ret_port = number(fields[2], 65535)) < 0)
        return -EINVAL;
    memcpy(ret_host, fields[1].data, fields[1].size);
    ret_host[fields[1].size] = '\0';
    return 0;
}

static void try_extended(const char *text)
{
    struct weir_address address, again;
    struct in6_addr place;
    char host[TEXT_MAX], written[TEXT_MAX];
    int family = AF_UNSPEC, expected;
    long port = 0;
    expected = extended(text, &family, host, &port);
    if (!expected && inet_pton(family, host, &place) != 1)
        expected = -EINVAL;
    fuzz_require(ftp_address_read_extended(text, &address) == expected, "EPRT is judged otherwise");
    if (expected)
        return;
    const void *found = family == AF_INET ? (const void *)&address.in.sin_addr
                                          : (const void *)&address.in6.sin6_addr;
    fuzz_require(address.any.sa_family == family && ntohs(address.in.sin_port) == port &&
                     !memcmp(found, &place, family == AF_INET ? 4 : 16),
                 "EPRT's address is another");
    inet_ntop(family, found, host, sizeof host);
    snprintf(written, sizeof written, "|%c|%.64s|%ld|", ftp_address_family((sa_family_t)family),
             host, port);
    fuzz_require(!ftp_address_read_extended(written, &again), "what is written is refused");
    require_same(&address, &again);
}

static void try_epsv(const char *text)
{
    for (int i = 0; i < 2; i++) {
        enum ftp_epsv asked = ftp_address_read_epsv(text, i ? AF_INET6 : AF_INET);
        int all = strlen(text) == 3 && (text[0] | 32) == 'a' && (text[1] | 32) == 'l' &&
                  (text[2] | 32) == 'l';
        int opens = !*text || !strcmp(text, i ? "2" : "1");
        fuzz_require(asked == (all     ? FTP_EPSV_ALL
                               : opens ? FTP_EPSV_OPENS
                                       : FTP_EPSV_OTHER),
                     "EPSV is understood otherwise");
    }
}

static void try_range(const char *text)
{
    struct field fields[FIELDS_MAX];
    uint16_t first, last;
    int pair = split(text, '-', fields) == 2;
    long low = pair ? number(fields[0], 65535) : -1, high = pair ? number(fields[1], 65535) : -1;
    int holds = low >= FTP_PORT_MIN && high >= low;
    fuzz_require(ftp_address_read_range(text, &first, &last) == holds, "a range judged otherwise");
    fuzz_require(!holds || (first == low && last == high), "a range is another");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = size < TEXT_MAX ? malloc(size + 1) : NULL;
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    try_port(text);
    try_extended(text);
    try_epsv(text);
    try_range(text);
    free(text);
    return 0;
}
