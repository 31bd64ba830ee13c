// --turns: standard input says when the load runs and how long; in between it rests.
#ifndef LOAD_TURNS_H
#define LOAD_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TURNS_LINE_MAX = 128 };

// What was read and not yet taken.
struct turns {
    char text[TURNS_LINE_MAX];
    size_t used;
    bool ended; // the input is
};

struct turn {
    uint64_t length_ns;
    bool warms; // counts nowhere
};

enum turns_result {
    TURNS_NONE, // no whole line yet
    TURNS_TURN,
    TURNS_END,
    TURNS_WRONG, // a line that is no turn
};

// Reads what the file has; to be called when it can be read. -errno.
int turns_fill(struct turns *turns, int file);
// Takes the next line. TURNS_WRONG leaves it at the head of turns->text, as a string.
enum turns_result turns_take(struct turns *turns, struct turn *ret_turn);

#endif
