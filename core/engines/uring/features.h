// The table of io_uring features, and the plan that it is resolved into once per loop.
#ifndef WEIR_FEATURES_H
#define WEIR_FEATURES_H

#include <stdbool.h>
#include <stddef.h>

struct feature {
    const char *name;    // as --uring knows it
    const char *kernel;  // the first that has it
    const char *purpose; // in a few words
    bool in_default;
    // 0, or -errno, and then why and what weir does instead; NULL: every supported kernel has it.
    int (*probe)(char *ret_detail, size_t size);
};

// Returns the number of rows.
size_t features_table(const struct feature **ret_rows);

#endif
