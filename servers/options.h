// Command-line options from tables: one row is an option's parsing and its line of --help.
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_kind {
    OPTION_FLAG,    // bool; takes no argument
    OPTION_COUNT,   // uint64_t; a whole number
    OPTION_SIZE,    // uint64_t; bytes, with K, M or G for powers of 1024
    OPTION_SECONDS, // uint64_t of nanoseconds; the argument may have decimals
    OPTION_OCTAL,   // uint64_t; permission bits
    OPTION_TEXT,    // const char *
    OPTION_CUSTOM,  // what `parse` makes of it
};

struct option_row {
    const char *name;     // without the two dashes; NULL ends a table
    const char *argument; // its name in --help
    const char *help;
    size_t offset;     // of the member in the settings
    uint64_t min, max; // of numbers, in the member's unit
    // Returns NULL, or what the argument should have been.
    const char *(*parse)(const char *text, void *settings);
    enum option_kind kind;
};

// A command's name, its options (at most OPTIONS_MAX) and what --help says around them.
struct option_set {
    const char *command; // "weir echo"
    const char *usage;   // the rest of the usage line
    const char *about;
    const struct option_row *rows;
};

enum { OPTIONS_MAX = 64 };

// Fills `settings`, which holds the defaults. Returns 0; 1 when --help was asked for and printed;
// or -EINVAL after one line on standard error that names option and reason.
int options_parse(const struct option_set *set, int argc, char **argv, void *settings);

#endif
