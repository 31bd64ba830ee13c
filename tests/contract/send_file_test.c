// Files that are sent: whole ones and ranges, from memory and from the disk, with bytes around
// them, to peers that are slow, vanish or do not read.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "world.h"

struct send_file_range {
    uint64_t offset, size;
};

struct send_file {
    int fd;
    struct send_file_range ranges[8];
};

static void send_file_opened_send(struct subject *subject)
{
    const struct send_file *send = subject->service->context;
    struct weir_stream *stream = subject->stream;
    struct weir_file *file;
    if (weir_file_adopt(weir_stream_loop(stream), dup(send->fd), &file)) {
        world_complain(subject->world, "the descriptor is not adopted");
        return;
    }
    for (const struct send_file_range *range = send->ranges; range->size; range++)
        weir_stream_send_file(stream, file, range->offset, range->size);
    // The stream has references of its own.
    weir_file_release(file);
    weir_stream_close(stream);
}

static struct peer *send_file_peer(struct world *world, struct send_file *send,
                                   const struct peer_options *options, struct subject **ret_subject)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = send_file_opened_send, .context = send });
    struct weir_listener_config config = { .context = service };
    config.socket.send_buffer = options ? options->receive_buffer : 0;
    struct weir_address address = world_listen_with(world, "127.0.0.1:0", config);
    return peer_pair(world, &address, options, ret_subject);
}

// A whole file of 32 MiB arrives, and nothing else.
static void files_arrive_whole(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 32 << 20), .ranges = { { 0, 32 << 20 } } };
    struct subject *subject;
    struct peer *peer = send_file_peer(world, &send, NULL, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 32 << 20);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
    close(send.fd);
}

static uint64_t send_file_turns(const struct subject *subject)
{
    struct weir_stats stats;
    weir_loop_stats(weir_stream_loop(subject->stream), &stats);
    return stats.turns;
}

// Without sendfile(2), a range is read first.
static bool send_file_is_read(const struct weir_loop *loop)
{
    return !strcmp(weir_loop_engine(loop), "uring") && !strstr(weir_loop_plan(loop), " sendfile");
}

static void send_file_opened_count(struct subject *subject)
{
    subject->number = send_file_turns(subject);
    subject->pointer = send_file_is_read(weir_stream_loop(subject->stream)) ? subject : NULL;
    send_file_opened_send(subject);
}

static void send_file_closed_count(struct subject *subject)
{
    subject->number = send_file_turns(subject) - subject->number;
}

// A short file leaves, and its stream is closed, in the turn that asked for both: what `closed`
// says to other streams goes down in the same batch as what was said to them before.
static void short_files_end_in_their_turn(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 4096), .ranges = { { 0, 4096 } } };
    struct service *service = world_service(world, &(struct service){
                                                       .opened = send_file_opened_count,
                                                       .closed = send_file_closed_count,
                                                       .context = &send,
                                                   });
    // A direct one asks for a descriptor first.
    struct weir_listener_config config = { .context = service };
    config.socket.ordinary_descriptor = true;
    struct weir_address address = world_listen_with(world, "127.0.0.1:0", config);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 4096);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
    if (!subject->pointer)
        assert_int_equal(subject->number, 0);
    close(send.fd);
}

// Ranges of a file, odd and even, adjacent to each other, arrive one after the other.
static void file_ranges_arrive_in_order(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 2 << 20),
                              .ranges = { { 0, 1 },
                                          { 1, 4095 },
                                          { 4096, 65536 },
                                          { 69632, 1 },
                                          { 69633, 1000000 },
                                          { 1069633, 2 },
                                          { 1069635, (2 << 20) - 1069635 } } };
    struct subject *subject;
    struct peer *peer = send_file_peer(world, &send, NULL, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 2 << 20);
    close(send.fd);
}

// A reader that is slow gets the whole file all the same.
static void files_reach_slow_readers(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 1 << 20), .ranges = { { 0, 1 << 20 } } };
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    struct peer *peer = send_file_peer(world, &send, &options, &subject);
    peer->read_piece = 2000;
    peer_expect(peer, 3);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 1 << 20);
    close(send.fd);
}

struct send_file_connect {
    struct weir_address to;
    struct service *service;
};

static void send_file_connect(struct weir_loop *loop, void *argument)
{
    const struct send_file_connect *connect = argument;
    struct weir_connect_config config = { .protocol = service_protocol(connect->service),
                                          .context = connect->service };
    struct weir_stream *stream;
    if (weir_stream_connect(loop, &connect->to, &config, &stream))
        world_complain(connect->service->world, "connecting failed at once");
}

// A file that its peer does not read holds up no other stream of the loop (the control connection
// of a file transfer), and arrives later.
static void an_unread_file_holds_up_nobody(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 32 << 20), .ranges = { { 0, 32 << 20 } } };
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *control = peer_pair(world, &address, NULL, &subject);
    struct send_file_connect connect = {
        .service = world_service(
            world, &(struct service){ .opened = send_file_opened_send, .context = &send }),
    };
    struct peer *listener = peer_listen(world, "127.0.0.1:0", 8, &connect.to);
    (void)world_call(world, subject, send_file_connect, &connect);
    struct peer *silent = peer_accept(listener);
    uint32_t late = 0;
    for (int i = 0; i < 10; i++)
        late += peer_ping(control, 1000) >= 1000 * MILLISECOND;
    assert_in_range(late, 0, 2); // held up it would be each time
    peer_expect(silent, 3);
    world_reaches(world, &silent->ended, 1);
    assert_int_equal(silent->received, 32 << 20);
    close(send.fd);
}

enum { SEND_FILE_PEERS = 40, SEND_FILE_EACH = 256 * 1024 };

// What is read ahead of peers that do not read shares the bound of all queues, as what is sent from
// memory does: above it, each has about 16 KiB. All get their file in the end.
static void what_is_read_ahead_is_bounded(struct world *world)
{
    struct send_file send = { .fd = world_file(3, SEND_FILE_EACH),
                              .ranges = { { 0, SEND_FILE_EACH } } };
    struct peer_options options = { .send_buffer = 16384, .receive_buffer = 16384 };
    struct service *service = world_service(
        world, &(struct service){ .opened = send_file_opened_count, .context = &send });
    struct weir_listener_config config = { .context = service, .socket.send_buffer = 16384 };
    world->config->queued_max = 1 << 20;
    struct weir_address address = world_listen_with(world, "127.0.0.1:0", config);
    struct peer *peers[SEND_FILE_PEERS];
    for (uint64_t i = 0; i < SEND_FILE_PEERS; i++)
        peers[i] = peer_open(world, &address, &options);
    world_run_until_still(world);
    struct weir_stats stats = world_stats(world);
    // A file that is not read takes no memory.
    uint64_t least = world_subject(world, 0)->pointer ? SEND_FILE_PEERS * 16000 : 0;
    assert_in_range(stats.queued_high, least, (1 << 20) + SEND_FILE_PEERS * 2 * 16 * 1024);
    for (uint64_t i = 0; i < SEND_FILE_PEERS; i++)
        peer_expect(peers[i], 3);
    for (uint64_t i = 0; i < SEND_FILE_PEERS; i++)
        world_reaches(world, &peers[i]->received, SEND_FILE_EACH);
    close(send.fd);
}

// A range behind the end of its file closes the stream with -EIO; no byte is made up.
static void ranges_beyond_the_file_end_the_stream(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 100000), .ranges = { { 0, 100001 } } };
    struct subject *subject;
    struct peer *peer = send_file_peer(world, &send, NULL, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -EIO);
    world_reaches(world, &peer->failed, 1);
    assert_true(peer->received <= 100000);
    close(send.fd);
}

// A file that shrinks while it is being sent ends the stream with -EIO after a true prefix.
static void shrinking_files_end_the_stream(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 16 << 20), .ranges = { { 0, 16 << 20 } } };
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    struct peer *peer = send_file_peer(world, &send, &options, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->received, 1 << 20);
    peer->reading = false;
    assert_int_equal(ftruncate(send.fd, 2 << 20), 0);
    peer->reading = true;
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -EIO);
    world_run_until_still(world);
    assert_true(peer->received < 16 << 20);
    assert_int_equal(peer->mismatches, 0);
    assert_int_equal(peer->ended, 0);
    close(send.fd);
}

static void send_file_opened_mixed(struct subject *subject)
{
    const struct send_file *send = subject->service->context;
    struct weir_stream *stream = subject->stream;
    struct weir_file *file;
    if (weir_file_adopt(weir_stream_loop(stream), dup(send->fd), &file)) {
        world_complain(subject->world, "the descriptor is not adopted");
        return;
    }
    uint64_t at = 0;
    for (const struct send_file_range *range = send->ranges; range->size; range++) {
        weir_stream_send(stream, pattern_at(3, at), (size_t)(range->offset - at));
        weir_stream_send_file(stream, file, range->offset, range->size);
        at = range->offset + range->size;
    }
    weir_file_release(file);
    weir_stream_end(stream);
}

// A head, a range, bytes behind it and another range arrive in the order of the calls, then our
// end; the peer's end closes the connection.
static void bytes_around_file_ranges_keep_their_order(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 4 << 20),
                              .ranges = { { 200, 1 },
                                          { 300, 200000 },
                                          { 200400, 65536 },
                                          { 280000, 2000000 },
                                          { 2290000, (4 << 20) - 2290000 } } };
    struct service *service = world_service(
        world, &(struct service){ .opened = send_file_opened_mixed, .context = &send });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 4 << 20);
    assert_int_equal(peer->mismatches, 0);
    assert_int_equal(subject->closed, 0);
    peer_half_close(peer);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
    close(send.fd);
}

// A peer that resets the connection in the middle of a file ends the stream, and nothing is left.
static void a_reset_ends_a_file(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 32 << 20), .ranges = { { 0, 32 << 20 } } };
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    struct peer *peer = send_file_peer(world, &send, &options, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->received, 100000);
    peer_reset(peer);
    world_reaches(world, &subject->closed, 1);
    assert_true(subject->reason == -ECONNRESET || subject->reason == -EPIPE);
    close(send.fd);
}

static void send_file_abort(struct weir_loop *loop, void *argument)
{
    struct subject *subject = argument;
    (void)loop;
    weir_stream_abort(subject->stream);
}

// Aborting in the middle of a file that is not read ends the connection for the peer at once.
static void a_file_is_aborted_in_the_middle(struct world *world)
{
    struct send_file send = { .fd = world_file(3, 32 << 20), .ranges = { { 0, 32 << 20 } } };
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    struct peer *peer = send_file_peer(world, &send, &options, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->received, 100000);
    peer->reading = false;
    (void)world_call(world, subject, send_file_abort, subject);
    world_reaches(world, &subject->closed, 1);
    peer->reading = true;
    world_reaches(world, &peer->failed, 1);
    assert_int_equal(peer->ended, 0);
    assert_int_equal(peer->mismatches, 0);
    close(send.fd);
}

// A file on a disk of which `size` bytes from `offset` on (0: all) are not in memory arrives whole.
static void send_file_cold(struct world *world, off_t offset, off_t size)
{
    enum { SIZE = 6 << 20 };
    char path[] = "/var/tmp/weir-contract-XXXXXX";
    struct send_file send = { .fd = mkostemp(path, O_CLOEXEC), .ranges = { { 0, SIZE } } };
    assert_true(send.fd >= 0);
    unlink(path);
    for (uint64_t done = 0; done < SIZE; done += 65536)
        assert_int_equal(write(send.fd, pattern_at(3, done), 65536), 65536);
    assert_int_equal(fdatasync(send.fd), 0);
    (void)posix_fadvise(send.fd, offset, size, POSIX_FADV_DONTNEED);
    struct subject *subject;
    struct peer *peer = send_file_peer(world, &send, NULL, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, SIZE);
    assert_int_equal(peer->mismatches, 0);
    close(send.fd);
}

// A file that lies on a disk and not in memory arrives whole.
static void files_that_are_not_in_memory_arrive_whole(struct world *world)
{
    send_file_cold(world, 0, 0);
}

// A file with a hole in what is in memory of it arrives whole.
static void files_that_are_half_in_memory_arrive_whole(struct world *world)
{
    send_file_cold(world, 2 << 20, 1 << 20);
}

const struct contract_test send_file_tests[] = {
    { .name = "files_arrive_whole", .run = files_arrive_whole },
    { .name = "short_files_end_in_their_turn", .run = short_files_end_in_their_turn },
    { .name = "file_ranges_arrive_in_order", .run = file_ranges_arrive_in_order },
    { .name = "files_reach_slow_readers", .run = files_reach_slow_readers },
    { .name = "an_unread_file_holds_up_nobody", .run = an_unread_file_holds_up_nobody },
    { .name = "what_is_read_ahead_is_bounded", .run = what_is_read_ahead_is_bounded },
    { .name = "ranges_beyond_the_file_end_the_stream",
      .run = ranges_beyond_the_file_end_the_stream },
    { .name = "bytes_around_file_ranges_keep_their_order",
      .run = bytes_around_file_ranges_keep_their_order },
    { .name = "a_reset_ends_a_file", .run = a_reset_ends_a_file },
    { .name = "a_file_is_aborted_in_the_middle", .run = a_file_is_aborted_in_the_middle },
    { .name = "files_that_are_not_in_memory_arrive_whole",
      .run = files_that_are_not_in_memory_arrive_whole },
    { .name = "files_that_are_half_in_memory_arrive_whole",
      .run = files_that_are_half_in_memory_arrive_whole },
    { .name = "shrinking_files_end_the_stream", .run = shrinking_files_end_the_stream },
    { 0 },
};
