// Order and integrity of bytes, whatever their number, their source and their number of streams.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "world.h"

static const uint64_t transfer_sizes[] = {
    1,     2,      3,      63,     64,     1000,    4095,          4096,
    4097,  8192,   16383,  16384,  16385,  32768,   65535,         65536,
    65537, 131072, 262143, 262144, 262145, 1 << 20, (1 << 20) + 1, 8 << 20,
};

static void transfer_echo(struct peer *peer, uint64_t pattern, uint64_t size)
{
    peer_expect(peer, pattern);
    peer_send(peer, pattern, size);
    world_reaches(peer->world, &peer->received, size);
    assert_int_equal(peer->received, size);
    assert_int_equal(peer->mismatches, 0);
}

// Whatever a peer sends, in messages from 1 B to 8 MiB on one connection, comes back unchanged.
static void bytes_come_back_unchanged_at_every_size(struct world *world)
{
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof(transfer_sizes) / sizeof(transfer_sizes[0]); i++) {
        transfer_echo(peer, 100 + i, transfer_sizes[i]);
        total += transfer_sizes[i];
        assert_int_equal(subject->received, total);
    }
    peer_half_close(peer);
    world_reaches(world, &peer->ended, 1);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
    assert_int_equal(subject->ended, 1);
}

// 64 MiB go through one connection and back, checked on both sides.
static void sixty_four_mebibytes_come_back_in_order(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .received = echo_received, .pattern = 9 });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    transfer_echo(peer, 9, 64 << 20);
    assert_int_equal(subject->received, 64 << 20);
    assert_int_equal(subject->mismatches, 0);
}

// Where the kernel takes little at once, each send is short, and still nothing is lost or doubled.
static void tiny_kernel_buffers_lose_nothing(struct world *world)
{
    struct weir_listener_config config = { .context = world_echo(world) };
    config.socket.send_buffer = 1; // the kernel's least
    config.socket.receive_buffer = 1;
    struct weir_address address = world_listen_with(world, "127.0.0.1:0", config);
    struct peer_options options = { .send_buffer = 1, .receive_buffer = 1 };
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &options, &subject);
    peer->read_piece = 1000;
    transfer_echo(peer, 3, 1 << 20);
}

// A peer that writes single bytes gets each of them back.
static void single_bytes_come_back_in_order(struct world *world)
{
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_expect(peer, 4);
    for (uint32_t i = 0; i < 500; i++) {
        peer_write(peer, pattern_at(4, i), 1);
        if (i % 3 == 0)
            world_reaches(world, &peer->received, i + 1);
    }
    world_reaches(world, &peer->received, 500);
    assert_int_equal(peer->received, 500);
}

// --- Sources -------------------------------------------------------------------------------------

enum { SOURCE_FILE_SIZE = 1 << 20, SOURCE_EXPECTED_MAX = 48 << 20 };

// What a stream was told to send, from all sources, as one array to compare with.
struct sources {
    uint64_t random;
    struct weir_file *file;
    char *expected;
    size_t expected_size;
    uint32_t kinds[5];
};

static void sources_note(struct sources *sources, const char *data, size_t size)
{
    memcpy(sources->expected + sources->expected_size, data, size);
    sources->expected_size += size;
}

static size_t sources_size(struct sources *sources, uint32_t most)
{
    // Small sizes as often as large ones.
    return 1 + pattern_random(&sources->random, 1 + pattern_random(&sources->random, most));
}

static void sources_send_reserved(struct sources *sources, struct weir_stream *stream,
                                  const char *data)
{
    size_t size = sources_size(sources, 15000);
    char *span = weir_stream_reserve(stream, size + pattern_random(&sources->random, 1000));
    if (!span)
        return;
    memcpy(span, data, size);
    weir_stream_commit(stream, size);
    sources_note(sources, data, size);
}

static void sources_send_one(struct sources *sources, struct weir_stream *stream,
                             struct weir_slice slice)
{
    const char *data = pattern_at(50, pattern_random(&sources->random, 60000));
    uint32_t kind = pattern_random(&sources->random, 5);
    size_t size = sources_size(sources, 40000), offset;
    sources->kinds[kind]++;
    switch (kind) {
    case 0:
        weir_stream_send(stream, data, size);
        sources_note(sources, data, size);
        return;
    case 1:
        sources_send_reserved(sources, stream, data);
        return;
    case 2:
        weir_stream_send_static(stream, data, size);
        sources_note(sources, data, size);
        return;
    case 3:
        offset = pattern_random(&sources->random, (uint32_t)slice.size);
        slice.data += offset;
        slice.size -= offset;
        weir_stream_send_slice(stream, slice);
        sources_note(sources, slice.data, slice.size);
        return;
    default:
        offset = pattern_random(&sources->random, SOURCE_FILE_SIZE - 40000);
        weir_stream_send_file(stream, sources->file, offset, size);
        sources_note(sources, pattern_at(60, offset), size);
    }
}

static void sources_opened(struct subject *subject)
{
    struct sources *sources = subject->service->context;
    int fd = memfd_create("sources", MFD_CLOEXEC);
    for (size_t done = 0; done < SOURCE_FILE_SIZE;) {
        ssize_t count = write(fd, pattern_at(60, done), SOURCE_FILE_SIZE - done);
        if (count <= 0)
            world_complain(subject->world, "the file cannot be written");
        done += count > 0 ? (size_t)count : SOURCE_FILE_SIZE;
    }
    if (weir_file_adopt(weir_stream_loop(subject->stream), fd, &sources->file))
        world_complain(subject->world, "the descriptor is not adopted");
}

static void sources_received(struct subject *subject, struct weir_slice slice)
{
    struct sources *sources = subject->service->context;
    uint32_t count = 1 + pattern_random(&sources->random, 6);
    for (uint32_t i = 0; i < count; i++) {
        if (sources->expected_size + PATTERN_SPAN_MAX < SOURCE_EXPECTED_MAX)
            sources_send_one(sources, subject->stream, slice);
    }
}

static void sources_ended(struct subject *subject)
{
    struct sources *sources = subject->service->context;
    weir_file_release(sources->file);
    weir_stream_close(subject->stream);
}

// Bytes leave in the order of the calls, whatever mixture of copies, reserved spans, static bytes,
// parts of slices and file ranges they come from.
static void sources_leave_in_the_order_of_the_calls(struct world *world)
{
    struct sources sources = { .random = 42, .expected = malloc(SOURCE_EXPECTED_MAX) };
    struct service *service = world_service(world, &(struct service){ .opened = sources_opened,
                                                                      .received = sources_received,
                                                                      .ended = sources_ended,
                                                                      .pattern = 8,
                                                                      .context = &sources });
    struct weir_address address = world_listen(world, service);
    struct peer *peer = peer_open(world, &address, NULL);
    peer->copy_size = SOURCE_EXPECTED_MAX;
    peer->copy = malloc(peer->copy_size);
    peer->reading = true;
    peer->end_when_sent = true;
    peer->send_piece = 3000;
    peer_send(peer, 8, 2 << 20);
    world_reaches(world, &peer->ended, 1);
    world_close(world);
    for (int i = 0; i < 5; i++)
        assert_true(sources.kinds[i] > 10);
    assert_int_equal(peer->received, sources.expected_size);
    assert_memory_equal(peer->copy, sources.expected, sources.expected_size);
    free(peer->copy);
    free(sources.expected);
}

enum { SMALL_SENDS = 10000, SMALL_SENDS_BYTES = SMALL_SENDS / 100 * 5050 };

static void small_sends_opened(struct subject *subject)
{
    uint64_t offset = 0;
    for (uint32_t i = 0; i < SMALL_SENDS; i++) {
        uint32_t size = i % 100 + 1;
        weir_stream_send(subject->stream, pattern_at(6, offset), size);
        offset += size;
    }
    weir_stream_close(subject->stream);
}

// Thousands of small sends of one callback are one ordered stream of bytes.
static void small_sends_of_one_callback_keep_their_order(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = small_sends_opened });
    struct weir_address address = world_listen(world, service);
    struct peer *peer = peer_open(world, &address, NULL);
    peer_expect(peer, 6);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, SMALL_SENDS_BYTES);
}

static void commit_part_opened(struct subject *subject)
{
    struct weir_stream *stream = subject->stream;
    char *span = weir_stream_reserve(stream, 16000);
    if (!span)
        return;
    memset(span, 'x', 16000);
    memcpy(span, "one", 3);
    weir_stream_commit(stream, 3);
    span = weir_stream_reserve(stream, 1);
    *span = '?';
    weir_stream_commit(stream, 0);
    weir_stream_send(stream, "", 0);
    weir_stream_send_static(stream, "", 0);
    weir_stream_send(stream, "two", 3);
    weir_stream_reserve(stream, 16000);
    weir_stream_send_static(stream, "three", 5);
    weir_stream_close(stream);
}

// Of a reserved span, what was committed leaves and nothing else; empty sends send nothing.
static void only_committed_bytes_leave(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = commit_part_opened });
    struct weir_address address = world_listen(world, service);
    struct peer *peer = peer_open(world, &address, NULL);
    peer->reading = true;
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 11);
    assert_memory_equal(peer->head, "onetwothree", 11);
}

// --- Slices --------------------------------------------------------------------------------------

enum { HELD_MAX = 64 };

struct held {
    struct weir_slice slices[HELD_MAX];
    uint64_t offsets[HELD_MAX];
    uint32_t count;
    uint64_t seen;
    bool refused;
};

static void hold_received(struct subject *subject, struct weir_slice slice)
{
    struct held *held = subject->service->context;
    if (held->count < HELD_MAX) {
        held->offsets[held->count] = held->seen;
        if (weir_slice_hold(subject->stream, slice, &held->slices[held->count]))
            held->refused = true;
        else
            held->count++;
    }
    held->seen += slice.size;
}

static void hold_release(struct weir_stream *stream, void *argument)
{
    struct held *held = argument;
    for (uint32_t i = 0; i < held->count; i++)
        weir_slice_release(stream, &held->slices[i]);
}

// Held slices keep their bytes while more arrives than all receive buffers hold together.
static void held_slices_keep_their_bytes(struct world *world)
{
    struct held held = { 0 };
    world->config->buffer_count = 16;
    struct service *service = world_service(
        world, &(struct service){ .received = hold_received, .pattern = 5, .context = &held });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    for (uint32_t round = 0; round < 40; round++) {
        peer_send(peer, 5, round % 2 ? 30000 : 100);
        world_reaches(world, &subject->received, peer->sent + peer->send_left);
    }
    peer_send(peer, 5, 4 << 20);
    world_reaches(world, &subject->received, peer->sent + peer->send_left);
    assert_false(held.refused);
    assert_true(held.count >= 40);
    for (uint32_t i = 0; i < held.count; i++)
        assert_true(pattern_matches(5, held.offsets[i], held.slices[i].data, held.slices[i].size));
    world_with(subject, hold_release, &held);
    assert_int_equal(held.slices[0].size, 0);
}

static void forward_received(struct subject *subject, struct weir_slice slice)
{
    struct world *world = subject->world;
    // Streams stand in pairs: 0 and 1, 2 and 3 ...
    struct subject *other = world->subjects[subject->index ^ 1];
    if (other->stream)
        weir_stream_send_slice(other->stream, slice);
}

// A slice may be sent on any stream of the loop: two peers talk through the pair of their streams.
static void slices_go_to_other_streams(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .received = forward_received });
    struct weir_address address = world_listen(world, service);
    struct peer *peers[8];
    struct subject *subject;
    for (uint64_t i = 0; i < 8; i++)
        peers[i] = peer_pair(world, &address, NULL, &subject);
    for (uint64_t i = 0; i < 8; i++) {
        peer_expect(peers[i], 20 + (i ^ 1));
        peer_send(peers[i], 20 + i, 3 << 20);
    }
    for (uint64_t i = 0; i < 8; i++)
        world_reaches(world, &peers[i]->received, 3 << 20);
}

// A hundred streams at once, each with bytes of its own, do not mix.
static void many_streams_do_not_mix(struct world *world)
{
    struct weir_address address = world_listen(world, world_echo(world));
    struct peer *peers[100];
    for (uint64_t i = 0; i < 100; i++) {
        peers[i] = peer_open(world, &address, NULL);
        peer_expect(peers[i], 1000 + i);
        peer_send(peers[i], 1000 + i, 200000 + i);
        peers[i]->end_when_sent = true;
    }
    for (uint64_t i = 0; i < 100; i++) {
        world_reaches(world, &peers[i]->ended, 1);
        assert_int_equal(peers[i]->received, 200000 + i);
    }
}

const struct contract_test transfer_tests[] = {
    { .name = "bytes_come_back_unchanged_at_every_size",
      .run = bytes_come_back_unchanged_at_every_size },
    { .name = "sixty_four_mebibytes_come_back_in_order",
      .run = sixty_four_mebibytes_come_back_in_order },
    { .name = "tiny_kernel_buffers_lose_nothing", .run = tiny_kernel_buffers_lose_nothing },
    { .name = "single_bytes_come_back_in_order", .run = single_bytes_come_back_in_order },
    { .name = "sources_leave_in_the_order_of_the_calls",
      .run = sources_leave_in_the_order_of_the_calls },
    { .name = "small_sends_of_one_callback_keep_their_order",
      .run = small_sends_of_one_callback_keep_their_order },
    { .name = "only_committed_bytes_leave", .run = only_committed_bytes_leave },
    { .name = "held_slices_keep_their_bytes", .run = held_slices_keep_their_bytes },
    { .name = "slices_go_to_other_streams",
      .run = slices_go_to_other_streams,
      .needs = { .one_loop = true } },
    { .name = "many_streams_do_not_mix", .run = many_streams_do_not_mix },
    { 0 },
};
