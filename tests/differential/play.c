// Plays the steps of a script, and writes down what its client is told.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "normal.h"
#include "script.h"

// What a connection may be told at most.
enum { PLAY_ROOM = 1 << 20 };

enum { PLAY_UPLOAD = 41, PLAY_BODY = 42 }; // patterns

struct play {
    const struct script *script;
    const struct step *step;
    struct world *world;
    const struct weir_address *address;
    struct peer *control, *data, *listener; // NULL: none
    size_t seen;                            // of what the control connection was told
    struct text *transcript;
};

// --- Connections ---------------------------------------------------------------------------------

static void play_record(struct peer *peer)
{
    peer->copy = malloc(PLAY_ROOM);
    assert_non_null(peer->copy);
    peer->copy_size = PLAY_ROOM;
    peer->reading = true;
}

static struct peer *play_connect(struct play *play, const struct weir_address *address)
{
    const struct peer_options few = { .receive_buffer = 4096, .send_buffer = 4096 };
    struct peer *peer = peer_open(play->world, address, play->step->number ? &few : NULL);
    play_record(peer);
    return peer;
}

// Takes what it was told, as it came.
static struct text play_take(struct peer *peer)
{
    struct text told = { 0 };
    assert_in_range(peer->received, 0, PLAY_ROOM);
    text_add(&told, peer->copy, (size_t)peer->received);
    free(peer->copy);
    peer->copy = peer->head;
    peer->copy_size = 0;
    peer->reading = false;
    return told;
}

static void play_close_control(struct play *play)
{
    if (!play->control)
        return;
    struct text told = play_take(play->control);
    text_format(play->transcript, "-- connection\n");
    normal_add_control(play->transcript, &told);
    text_free(&told);
    peer_close(play->control);
    play->control = NULL;
    play->seen = 0;
}

static void play_close_data(struct play *play, bool of_interest, bool lines)
{
    struct text told = play_take(play->data);
    if (of_interest) {
        text_format(play->transcript, "-- data\n");
        if (lines)
            normal_add_lines(play->transcript, &told);
        else
            text_add(play->transcript, told.data, told.size);
        text_format(play->transcript, "\n");
    }
    text_free(&told);
    peer_close(play->data);
    play->data = NULL;
}

// --- Waiting -------------------------------------------------------------------------------------

static void play_until(struct play *play, bool (*condition)(void *argument))
{
    if (world_until(play->world, condition, play, WORLD_PATIENCE))
        return;
    const struct peer *control = play->control;
    int size = control ? (int)(control->received - play->seen) : 0;
    fail_msg("%s, step %td: in vain; the client was told '%.*s'", play->script->name,
             play->step - play->script->steps, size < 400 ? size : 400,
             size ? control->copy + play->seen : "");
}

static bool play_over(const struct peer *peer)
{
    return peer->ended || peer->failed;
}

// Whether the text has come, and with it the end of its line if that was asked for.
static bool play_has_come(void *argument)
{
    struct play *play = argument;
    const struct peer *peer = play->control;
    const char *from = peer->copy + play->seen, *text = play->step->text;
    const char *found = memmem(from, (size_t)peer->received - play->seen, text, strlen(text));
    if (!found)
        return play_over(peer);
    found += strlen(text);
    if (play->step->number) {
        found = memchr(found, '\n', (size_t)(peer->copy + peer->received - found));
        if (!found)
            return play_over(peer);
        found++;
    }
    play->seen = (size_t)(found - peer->copy);
    return true;
}

static bool play_has_ended(void *argument)
{
    return play_over(((struct play *)argument)->control);
}

static bool play_data_has_ended(void *argument)
{
    return play_over(((struct play *)argument)->data);
}

static bool play_has_sent(void *argument)
{
    return !((struct play *)argument)->control->send_left || play_has_ended(argument);
}

// --- Data connections ----------------------------------------------------------------------------

// Of the last line with a port: "(|||40000|)" or "(127,0,0,1,156,64)".
static uint16_t play_port(const struct play *play)
{
    const struct peer *peer = play->control;
    size_t at = play->seen;
    while (at && peer->copy[at] != '(')
        at--;
    char line[64] = { 0 };
    unsigned high, low, port;
    memcpy(line, peer->copy + at, play->seen - at < 63 ? play->seen - at : 63);
    if (sscanf(line, "(|||%u|)", &port) == 1)
        return (uint16_t)port;
    if (sscanf(line, "(127,0,0,1,%u,%u)", &high, &low) != 2)
        fail_msg("%s: there is no port in '%s'", play->script->name, line);
    return (uint16_t)(high << 8 | low);
}

static void play_passive(struct play *play)
{
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%u", play_port(play));
    const struct weir_address address = world_address(text);
    play->data = play_connect(play, &address);
}

static void play_active(struct play *play)
{
    struct weir_address bound;
    char line[96];
    play->listener = peer_listen(play->world, "127.0.0.1:0", 8, &bound);
    unsigned port = (unsigned)(bound.in.sin_port >> 8 | bound.in.sin_port << 8) & 0xffff;
    const char *place = strstr(play->step->text, "PORT");
    int size = snprintf(line, sizeof line, "%s", play->step->text);
    if (place)
        size += snprintf(line + size, sizeof line - (size_t)size, "127,0,0,1,%u,%u\r\n", port >> 8,
                         port & 0xff);
    else
        size += snprintf(line + size, sizeof line - (size_t)size, "|1|127.0.0.1|%u|\r\n", port);
    peer_write(play->control, line, (size_t)size);
}

static void play_taken(struct play *play)
{
    play->data = peer_accept(play->listener);
    play_record(play->data);
    peer_close(play->listener);
    play->listener = NULL;
}

static void play_data_send(struct play *play)
{
    play->data->end_when_sent = true;
    peer_send(play->data, PLAY_UPLOAD, play->step->number);
}

static bool play_data_is_connected(void *argument)
{
    return ((struct play *)argument)->data->connected || play_data_has_ended(argument);
}

static void play_data_say(struct play *play)
{
    play_until(play, play_data_is_connected);
    peer_write(play->data, play->step->text, strlen(play->step->text));
    if (!play->step->number)
        peer_half_close(play->data);
}

// --- The steps -----------------------------------------------------------------------------------

static bool play_is_connected(void *argument)
{
    return ((struct play *)argument)->control->connected || play_has_ended(argument);
}

static void play_open(struct play *play)
{
    play_close_control(play);
    play->control = play_connect(play, play->address);
    play->control->read_piece = (size_t)play->step->number;
    play_until(play, play_is_connected);
}

static void play_reset(struct play *play)
{
    struct text told = play_take(play->control); // how much of it came first is a matter of luck
    text_free(&told);
    peer_reset(play->control);
    play->control = NULL;
    play->seen = 0;
}

static void play_ended(struct play *play)
{
    play_until(play, play_has_ended);
    if (play->control->failed)
        fail_msg("%s: the connection broke: %s", play->script->name,
                 strerror(-play->control->error));
    play->seen = (size_t)play->control->received;
}

static void play_step(struct play *play)
{
    const struct step *step = play->step;
    switch (step->kind) {
    case STEP_NONE:
        break;
    case STEP_OPEN:
        play_open(play);
        break;
    case STEP_SAY:
        play_until(play, play_has_sent);
        peer_write(play->control, step->text, strlen(step->text));
        break;
    case STEP_SEND:
        peer_send(play->control, PLAY_BODY, step->number);
        break;
    case STEP_WAIT:
        play_until(play, play_has_come);
        break;
    case STEP_PAUSE:
        world_run(play->world, step->number * MILLISECOND);
        break;
    case STEP_HALF_CLOSE:
        play_until(play, play_has_sent);
        peer_half_close(play->control);
        break;
    case STEP_RESET:
        play_reset(play);
        break;
    case STEP_ENDED:
        play_ended(play);
        break;
    case STEP_PASSIVE:
        play_passive(play);
        break;
    case STEP_ACTIVE:
        play_active(play);
        break;
    case STEP_TAKEN:
        play_taken(play);
        break;
    case STEP_DATA_SEND:
        play_data_send(play);
        break;
    case STEP_DATA_SAY:
        play_data_say(play);
        break;
    case STEP_DATA_ENDED:
    case STEP_DATA_LINES:
        play_until(play, play_data_has_ended);
        play_close_data(play, true, step->kind == STEP_DATA_LINES);
        break;
    case STEP_DATA_CLOSE:
        play_close_data(play, false, false);
    }
}

void script_play(const struct script *script, struct world *world,
                 const struct weir_address *address, struct text *transcript)
{
    struct play play = {
        .script = script, .world = world, .address = address, .transcript = transcript
    };
    for (play.step = script->steps; play.step->kind; play.step++)
        play_step(&play);
    play_close_control(&play);
    assert_null(play.data);
}
