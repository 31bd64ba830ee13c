// See options.h. getopt_long does the splitting; every message is ours.
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// getopt_long's values of long options: above all letters, which stand for short ones.
enum { OPTIONS_FIRST = 256, OPTIONS_HELP = OPTIONS_FIRST + OPTIONS_MAX, OPTIONS_COLUMN = 32 };

// --- Values --------------------------------------------------------------------------------------

static bool options_read_number(const char *text, int base, uint64_t *ret_value, char **ret_end)
{
    // strtoull would take a sign or leading white space.
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *ret_value = strtoull(text, ret_end, base);
    return errno == 0;
}

static bool options_read_size(const char *text, uint64_t *ret_value)
{
    static const char units[] = "KMG";
    char *end;
    if (!options_read_number(text, 10, ret_value, &end))
        return false;
    const char *unit = *end ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (end[unit ? 1 : 0] || *ret_value > UINT64_MAX >> shift)
        return false;
    *ret_value <<= shift;
    return true;
}

// Decimals down to a nanosecond; more of them are cut off.
static bool options_read_seconds(const char *text, uint64_t *ret_value)
{
    char *end;
    uint64_t fraction = 0;
    if (!options_read_number(text, 10, ret_value, &end) || *ret_value > UINT64_MAX / 1000000000 - 1)
        return false;
    if (*end == '.') {
        end++;
        for (uint64_t unit = 100000000; *end >= '0' && *end <= '9'; end++, unit /= 10)
            fraction += unit * (uint64_t)(*end - '0');
    }
    *ret_value = *ret_value * 1000000000 + fraction;
    return *end == '\0';
}

static bool options_read(enum option_kind kind, const char *text, uint64_t *ret_value)
{
    char *end;
    switch (kind) {
    case OPTION_COUNT:
        return options_read_number(text, 10, ret_value, &end) && !*end;
    case OPTION_OCTAL:
        return options_read_number(text, 8, ret_value, &end) && !*end;
    case OPTION_SIZE:
        return options_read_size(text, ret_value);
    case OPTION_SECONDS:
        return options_read_seconds(text, ret_value);
    // UNTESTED: only numbers get here
    case OPTION_FLAG:
    case OPTION_TEXT:
    case OPTION_CUSTOM:
        break; // UNTESTED: only numbers get here
    }
    return false; // UNTESTED: every kind returns above
}

static void options_expected(const struct option_row *row, char *ret_text, size_t size)
{
    unsigned long long min = row->min, max = row->max, second = 1000000000;
    switch (row->kind) {
    case OPTION_COUNT:
        snprintf(ret_text, size, "a number from %llu to %llu", min, max);
        break;
    case OPTION_SIZE:
        snprintf(ret_text, size, "a size from %llu to %llu bytes (K, M and G are allowed)", min,
                 max);
        break;
    case OPTION_SECONDS:
        snprintf(ret_text, size, "seconds from %llu to %llu", min / second, max / second);
        break;
    case OPTION_OCTAL:
        snprintf(ret_text, size, "an octal number from %llo to %llo", min, max);
        break;
    // UNTESTED: only numbers get here
    case OPTION_FLAG:
    case OPTION_TEXT:
    case OPTION_CUSTOM:
        break; // UNTESTED: only numbers get here
    }
}

static int options_store(const struct option_set *set, const struct option_row *row,
                         const char *text, void *settings)
{
    void *member = (char *)settings + row->offset;
    char range[128];
    const char *expected = NULL;
    uint64_t value;
    if (row->kind == OPTION_FLAG) {
        *(bool *)member = true;
    } else if (row->kind == OPTION_TEXT) {
        *(const char **)member = text;
        expected = *text ? NULL : "a text";
    } else if (row->kind == OPTION_CUSTOM) {
        expected = row->parse(text, settings);
    } else if (options_read(row->kind, text, &value) && value >= row->min && value <= row->max) {
        *(uint64_t *)member = value;
    } else {
        options_expected(row, range, sizeof range);
        expected = range;
    }
    if (!expected)
        return 0;
    fprintf(stderr, "%s: --%s: '%s' is not %s\n", set->command, row->name, text, expected);
    return -EINVAL;
}

// --- Help ----------------------------------------------------------------------------------------

static void options_help(const struct option_set *set)
{
    printf("usage: %s %s\n\n%s\n\noptions:\n", set->command, set->usage, set->about);
    for (const struct option_row *row = set->rows; row->name; row++) {
        int width = printf("  --%s%s%s", row->name, row->argument ? " " : "",
                           row->argument ? row->argument : "");
        int gap = width < OPTIONS_COLUMN ? OPTIONS_COLUMN - width : 1;
        printf("%*s%s\n", gap, "", row->help);
    }
    printf("  --help%*sprint this text\n", OPTIONS_COLUMN - 8, "");
}

// --- Parsing -------------------------------------------------------------------------------------

static int options_fault(const struct option_set *set, const char *text, const char *reason)
{
    fprintf(stderr, "%s: %s: %s (see %s --help)\n", set->command, text, reason, set->command);
    return -EINVAL;
}

// What getopt_long could not take.
static int options_refuse(const struct option_set *set, int found, char **argv)
{
    char letter[] = { '-', (char)optopt, '\0' };
    const char *word = argv[optind - 1];
    if (found == ':')
        return options_fault(set, word, "needs a value");
    if (optopt >= OPTIONS_FIRST)
        return options_fault(set, word, "takes no value");
    return options_fault(set, optopt ? letter : word, "unknown option");
}

int options_parse(const struct option_set *set, int argc, char **argv, void *settings)
{
    struct option longs[OPTIONS_MAX + 2] = { 0 };
    int count = 0, found;
    for (; count < OPTIONS_MAX && set->rows[count].name; count++) {
        longs[count].name = set->rows[count].name;
        longs[count].has_arg =
            set->rows[count].kind == OPTION_FLAG ? no_argument : required_argument;
        longs[count].val = OPTIONS_FIRST + count;
    }
    longs[count] = (struct option){ .name = "help", .val = OPTIONS_HELP };
    opterr = 0;
    optind = 0;
    while ((found = getopt_long(argc, argv, "+:", longs, NULL)) != -1) {
        if (found == OPTIONS_HELP) {
            options_help(set);
            return 1;
        }
        if (found == '?' || found == ':')
            return options_refuse(set, found, argv);
        int error = options_store(set, &set->rows[found - OPTIONS_FIRST], optarg, settings);
        if (error)
            return error;
    }
    if (optind < argc)
        return options_fault(set, argv[optind], "unexpected argument");
    return 0;
}
