// Lines such as "run 20" or "warm 100.5", in milliseconds.
#include "turns.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "options.h"

#define TURNS_MILLISECOND_NS 1000000.0

static const double turns_length_min = 0.1, turns_length_max = 3600000;

int turns_fill(struct turns *turns, int file)
{
    // A line that fills the room is longer than any turn.
    ssize_t count = read(file, turns->text + turns->used, sizeof turns->text - 1 - turns->used);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    turns->used += (size_t)count;
    turns->ended = count == 0;
    return 0;
}

static bool turns_parse(const char *line, struct turn *ret_turn)
{
    double length;
    const char *number = strchr(line, ' ');
    if (strncmp(line, "warm ", 5) == 0)
        ret_turn->warms = true;
    else if (strncmp(line, "run ", 4) == 0)
        ret_turn->warms = false;
    else
        return false;
    if (!options_read_decimal(number + 1, turns_length_min, turns_length_max, &length))
        return false;
    ret_turn->length_ns = (uint64_t)(length * TURNS_MILLISECOND_NS + 0.5);
    return true;
}

enum turns_result turns_take(struct turns *turns, struct turn *ret_turn)
{
    char *end = memchr(turns->text, '\n', turns->used);
    bool full = turns->used == sizeof turns->text - 1;
    if (!end && turns->used == 0)
        return turns->ended ? TURNS_END : TURNS_NONE;
    if (!end && !turns->ended && !full)
        return TURNS_NONE;
    size_t length = end ? (size_t)(end - turns->text) : turns->used;
    turns->text[length] = '\0';
    if (!turns_parse(turns->text, ret_turn))
        return TURNS_WRONG;
    size_t taken = end ? length + 1 : length;
    turns->used -= taken;
    memmove(turns->text, turns->text + taken, turns->used);
    return TURNS_TURN;
}
