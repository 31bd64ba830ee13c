// What a confined ring takes, as a table: docs and tests count its rows.
#ifndef WEIR_URING_RESTRICT_H
#define WEIR_URING_RESTRICT_H

#include <stddef.h>
#include <stdint.h>

enum restrict_kind { RESTRICT_OPERATION, RESTRICT_FLAG, RESTRICT_REGISTER };

struct restrict_row {
    enum restrict_kind kind;
    uint8_t value;
    uint32_t abilities; // any of these WEIR_ABILITY_ bits brings it; 0: always
    const char *name;
};

// Returns the number of rows.
size_t restrict_table(const struct restrict_row **ret_rows);

#endif
