// The same scripts on every engine give the same bytes.
//
// What a stream answers is a function of the bytes it got, whatever slices they came in, and it
// takes every way there is to send. A script is drawn from its number: how much a client sends, in
// which pieces, and how it reads. Each engine is held to the function, and so to each other.
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { SCRIPTS = 24, SCRIPT_BLOCK = 1000, SCRIPT_SIZE_MAX = 300000 };

static const char script_mark[] = "<a mark that lies in static memory>";

// What becomes of a block, by its index.
enum script_way { SCRIPT_COPIED, SCRIPT_SLICED, SCRIPT_MARKED, SCRIPT_MASKED, SCRIPT_WAYS };

static char script_mask(char byte)
{
    return (char)(byte ^ 0x5a);
}

// Answers a part of a block that starts at an offset of the stream.
static void script_answer(struct weir_stream *stream, uint64_t offset, struct weir_slice part)
{
    switch ((enum script_way)(offset / SCRIPT_BLOCK % SCRIPT_WAYS)) {
    case SCRIPT_COPIED:
        weir_stream_send(stream, part.data, part.size);
        break;
    case SCRIPT_SLICED:
        weir_stream_send_slice(stream, part);
        break;
    case SCRIPT_MARKED:
        if (offset % SCRIPT_BLOCK == 0)
            weir_stream_send_static(stream, script_mark, strlen(script_mark));
        weir_stream_send_slice(stream, part);
        break;
    case SCRIPT_MASKED: {
        char *room = weir_stream_reserve(stream, part.size);
        for (size_t i = 0; room && i < part.size; i++)
            room[i] = script_mask(part.data[i]);
        if (room)
            weir_stream_commit(stream, part.size);
        break;
    }
    case SCRIPT_WAYS:
        break;
    }
}

static void script_received(struct subject *subject, struct weir_slice slice)
{
    uint64_t offset = subject->received - slice.size;
    while (slice.size) {
        struct weir_slice part = slice;
        uint64_t left = SCRIPT_BLOCK - offset % SCRIPT_BLOCK;
        if (part.size > left)
            part.size = (size_t)left;
        script_answer(subject->stream, offset, part);
        offset += part.size;
        slice.data += part.size;
        slice.size -= part.size;
    }
}

// The function, over all that the client sends. The caller frees the answer.
static char *script_expected(uint64_t pattern, size_t size, size_t *ret_size)
{
    size_t blocks = size / SCRIPT_BLOCK + 1, used = 0;
    char *answer = malloc(size + blocks * strlen(script_mark));
    if (!answer)
        abort();
    for (size_t offset = 0; offset < size; offset++) {
        enum script_way way = (enum script_way)(offset / SCRIPT_BLOCK % SCRIPT_WAYS);
        char byte = *pattern_at(pattern, offset);
        if (way == SCRIPT_MARKED && offset % SCRIPT_BLOCK == 0) {
            memcpy(answer + used, script_mark, strlen(script_mark));
            used += strlen(script_mark);
        }
        answer[used++] = way == SCRIPT_MASKED ? script_mask(byte) : byte;
    }
    *ret_size = used;
    return answer;
}

struct script {
    struct peer *peer;
    char *expected, *got;
    size_t expected_size;
};

static void script_start(struct script *script, struct world *world,
                         const struct weir_address *address, uint32_t number)
{
    uint64_t state = number + 1, pattern = 100 + number;
    struct peer_options options = { 0 };
    if (number % 2)
        options.receive_buffer = options.send_buffer = 4096;
    size_t size = pattern_random(&state, 1U << pattern_random(&state, 19)) % SCRIPT_SIZE_MAX;
    script->expected = script_expected(pattern, size, &script->expected_size);
    script->got = malloc(script->expected_size + 1);
    if (!script->got)
        abort();
    struct peer *peer = script->peer = peer_open(world, address, &options);
    peer->copy = script->got;
    peer->copy_size = script->expected_size + 1;
    peer->reading = true;
    peer->end_when_sent = true;
    peer->send_piece = 1 + pattern_random(&state, 20000);
    peer->send_step = 1 + pattern_random(&state, 40000);
    peer->read_piece = 1 + pattern_random(&state, 40000);
    peer_send(peer, pattern, size);
}

static void script_check(struct script *script)
{
    struct peer *peer = script->peer;
    world_reaches(peer->world, &peer->ended, 1);
    assert_int_equal(peer->failed, 0);
    assert_int_equal(peer->received, script->expected_size);
    assert_memory_equal(script->got, script->expected, script->expected_size);
    peer->copy = peer->head;
    peer->copy_size = 0;
    free(script->expected);
    free(script->got);
}

// Clients that send, read and end as their scripts say get the bytes that the function makes of
// theirs, all of them and no others, with every engine.
static void scripts_give_the_same_bytes_on_every_engine(struct world *world)
{
    static struct script scripts[SCRIPTS];
    struct service *service =
        world_service(world, &(struct service){ .received = script_received });
    struct weir_address address = world_listen(world, service);
    for (uint32_t number = 0; number < SCRIPTS; number++)
        script_start(&scripts[number], world, &address, number);
    for (uint32_t number = 0; number < SCRIPTS; number++)
        script_check(&scripts[number]);
}

const struct contract_test script_tests[] = {
    { .name = "scripts_give_the_same_bytes_on_every_engine",
      .run = scripts_give_the_same_bytes_on_every_engine },
    { 0 },
};
