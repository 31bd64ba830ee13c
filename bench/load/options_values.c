// Parsers of single values: strict, and false when the text is anything else.
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)

bool options_read_digits(const char *text, const char **ret_end, uint64_t *ret_number)
{
    if (!isdigit((unsigned char)*text))
        return false;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno)
        return false;
    *ret_number = number;
    *ret_end = end;
    return true;
}

bool options_read_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    const char *end;
    uint64_t number;
    if (!options_read_digits(text, &end, &number) || *end || number < min || number > max)
        return false;
    *ret_number = number;
    return true;
}

bool options_read_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret_size)
{
    const char *end;
    uint64_t number, unit = 1;
    if (!options_read_digits(text, &end, &number))
        return false;
    if (*end == 'K' || *end == 'k')
        unit = KIB;
    else if (*end == 'M' || *end == 'm')
        unit = MIB;
    if (end[unit > 1] || number > max / unit || number * unit < min)
        return false;
    *ret_size = number * unit;
    return true;
}

// A plain decimal number: no sign, exponent, hexadecimal digits or names, which strtod would take.
bool options_read_decimal(const char *text, double min, double max, double *ret_number)
{
    size_t length = strspn(text, "0123456789.");
    if (length == 0 || text[length] || !isdigit((unsigned char)*text) ||
        strchr(text, '.') != strrchr(text, '.'))
        return false;
    double number = strtod(text, NULL);
    if (!(number >= min && number <= max))
        return false;
    *ret_number = number;
    return true;
}

bool options_read_seconds(const char *text, double min, double max, uint64_t *ret_ns)
{
    double seconds;
    if (!options_read_decimal(text, min, max, &seconds))
        return false;
    *ret_ns = (uint64_t)(seconds * 1e9 + 0.5);
    return true;
}
