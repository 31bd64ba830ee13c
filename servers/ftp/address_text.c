// See address_text.h.
#include "address_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// Reads a number up to `max` and what must follow it, and moves on behind both.
static bool address_text_number(const char **text, unsigned long max, char follows,
                                unsigned long *ret_number)
{
    char *end;
    if (**text < '0' || **text > '9')
        return false;
    unsigned long number = strtoul(*text, &end, 10);
    if (*end != follows || number > max)
        return false;
    *text = end + (follows != '\0');
    *ret_number = number;
    return true;
}

bool ftp_address_read_port(const char *text, struct weir_address *ret_address)
{
    struct weir_address address = { .in.sin_family = AF_INET, .size = sizeof address.in };
    unsigned long numbers[6];
    for (int i = 0; i < 6; i++) {
        if (!address_text_number(&text, 255, i < 5 ? ',' : '\0', &numbers[i]))
            return false;
    }
    address.in.sin_addr.s_addr =
        htonl((uint32_t)(numbers[0] << 24 | numbers[1] << 16 | numbers[2] << 8 | numbers[3]));
    address.in.sin_port = htons((uint16_t)(numbers[4] << 8 | numbers[5]));
    *ret_address = address;
    return true;
}

int ftp_address_read_extended(const char *text, struct weir_address *ret_address)
{
    char host[INET6_ADDRSTRLEN], delimiter = *text;
    struct weir_address address = { .size = sizeof address.in };
    unsigned long family, port;
    if (delimiter < 33 || delimiter > 126)
        return -EINVAL;
    text++;
    if (!address_text_number(&text, 65535, delimiter, &family))
        return -EINVAL;
    if (family != 1 && family != 2)
        return -EPROTONOSUPPORT;
    const char *end = strchr(text, delimiter);
    if (!end || (size_t)(end - text) >= sizeof host)
        return -EINVAL;
    memcpy(host, text, (size_t)(end - text));
    host[end - text] = '\0';
    text = end + 1;
    if (!address_text_number(&text, 65535, delimiter, &port) || *text)
        return -EINVAL;
    address.any.sa_family = family == 1 ? AF_INET : AF_INET6;
    void *place = &address.in.sin_addr;
    if (family == 2) {
        address.size = sizeof address.in6;
        place = &address.in6.sin6_addr;
    }
    // The port lies at the same place in both families.
    address.in.sin_port = htons((uint16_t)port);
    if (inet_pton(address.any.sa_family, host, place) != 1)
        return -EINVAL;
    *ret_address = address;
    return 0;
}

char ftp_address_family(sa_family_t family)
{
    return family == AF_INET6 ? '2' : '1';
}

enum ftp_epsv ftp_address_read_epsv(const char *text, sa_family_t family)
{
    if (!strcasecmp(text, "ALL"))
        return FTP_EPSV_ALL;
    bool own = text[0] == ftp_address_family(family) && !text[1];
    return !*text || own ? FTP_EPSV_OPENS : FTP_EPSV_OTHER;
}

void ftp_address_write_port(struct in_addr host, uint16_t port, char ret_text[FTP_HOST_PORT_SIZE])
{
    uint8_t bytes[4];
    memcpy(bytes, &host, sizeof bytes);
    snprintf(ret_text, FTP_HOST_PORT_SIZE, "%u,%u,%u,%u,%u,%u", bytes[0], bytes[1], bytes[2],
             bytes[3], port >> 8, port & 255);
}

bool ftp_address_read_range(const char *text, uint16_t *ret_first, uint16_t *ret_last)
{
    unsigned long first, last;
    if (!address_text_number(&text, 65535, '-', &first) ||
        !address_text_number(&text, 65535, '\0', &last) || first < FTP_PORT_MIN || last < first)
        return false;
    *ret_first = (uint16_t)first;
    *ret_last = (uint16_t)last;
    return true;
}
