// Prints what the sandbox leaves, from the tables in the code: one line per list, "mode thread:
// names". sandbox_test.py compares the lines with docs/security.md.
#include <stdio.h>
#include <string.h>

#include "engines/uring/restrict.h"
#include "sandbox_calls.h"

struct list {
    const char *thread;
    uint32_t threads;
};

static const struct list tables_lists[] = {
    { "uring", SANDBOX_LOOP_URING },
    { "epoll", SANDBOX_LOOP_EPOLL },
    { "blocking", SANDBOX_LOOP_BLOCKING },
    { "main", SANDBOX_MAIN },
};

// A name that was printed by an earlier row, with other checks, is not printed again.
static bool tables_is_first(const struct sandbox_call *rows, size_t at, const bool *printed)
{
    for (size_t i = 0; i < at; i++) {
        if (printed[i] && !strcmp(rows[i].name, rows[at].name))
            return false;
    }
    return true;
}

static void tables_print_calls(const char *mode, const struct list *list, uint32_t having)
{
    const struct sandbox_call *rows;
    size_t count = sandbox_calls(&rows);
    bool printed[256] = { false };
    printf("%s %s%s:", mode, list->thread, having & SANDBOX_WITH_FILES ? " with files" : "");
    for (size_t i = 0; i < count && i < sizeof printed; i++) {
        bool left = rows[i].level == SANDBOX_LEFT ||
                    (!strcmp(mode, "on") && rows[i].level != SANDBOX_REFUSED);
        printed[i] = left && sandbox_call_applies(&rows[i], list->threads, having);
        if (printed[i] && tables_is_first(rows, i, printed))
            printf(" %s", rows[i].name);
    }
    printf("\n");
}

static void tables_print_ring(const char *title, enum restrict_kind kind, uint32_t abilities)
{
    const struct restrict_row *rows;
    size_t count = restrict_table(&rows);
    printf("ring %s:", title);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].kind == kind && (!rows[i].abilities || rows[i].abilities & abilities))
            printf(" %s", rows[i].name);
    }
    printf("\n");
}

int main(void)
{
    static const char *const modes[] = { "strict", "on" };
    const uint32_t echo = WEIR_ABILITY_ACCEPT | SANDBOX_WITH_UNIX;
    for (size_t mode = 0; mode < 2; mode++) {
        for (size_t i = 0; i < sizeof tables_lists / sizeof tables_lists[0]; i++)
            tables_print_calls(modes[mode], &tables_lists[i], echo);
        tables_print_calls(modes[mode], &tables_lists[3], echo | SANDBOX_WITH_FILES);
    }
    tables_print_ring("operations", RESTRICT_OPERATION, echo);
    tables_print_ring("flags", RESTRICT_FLAG, echo);
    tables_print_ring("register operations", RESTRICT_REGISTER, echo);
    return 0;
}
