// Files: ranges sent to a stream, streams received into a file, and the operations on their own.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "world.h"

// --- A file to a stream --------------------------------------------------------------------------

// A file in memory that holds the pattern.
static int file_make(uint64_t pattern, uint64_t size)
{
    int fd = memfd_create("contract", MFD_CLOEXEC);
    for (uint64_t done = 0; done < size;) {
        uint64_t part = size - done < PATTERN_SPAN_MAX ? size - done : PATTERN_SPAN_MAX;
        ssize_t count = write(fd, pattern_at(pattern, done), (size_t)part);
        if (count <= 0)
            fail_msg("a file of %llu bytes cannot be made", (unsigned long long)size);
        done += (uint64_t)count;
    }
    return fd;
}

struct file_range {
    uint64_t offset, size;
};

struct file_send {
    int fd;
    struct file_range ranges[8];
};

static void file_opened_send(struct subject *subject)
{
    const struct file_send *send = subject->service->context;
    struct weir_stream *stream = subject->stream;
    struct weir_file *file;
    if (weir_file_adopt(weir_stream_loop(stream), dup(send->fd), &file)) {
        world_complain(subject->world, "the descriptor is not adopted");
        return;
    }
    for (const struct file_range *range = send->ranges; range->size; range++)
        weir_stream_send_file(stream, file, range->offset, range->size);
    // The stream has references of its own.
    weir_file_release(file);
    weir_stream_close(stream);
}

static struct peer *file_peer(struct world *world, struct file_send *send,
                              const struct peer_options *options, struct subject **ret_subject)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = file_opened_send, .context = send });
    struct weir_listener_config config = { .context = service };
    config.socket.send_buffer = options ? options->receive_buffer : 0;
    struct weir_address address = world_listen_with(world, "127.0.0.1:0", config);
    return peer_pair(world, &address, options, ret_subject);
}

// A whole file of 32 MiB arrives, and nothing else.
static void files_arrive_whole(struct world *world)
{
    struct file_send send = { .fd = file_make(3, 32 << 20), .ranges = { { 0, 32 << 20 } } };
    struct subject *subject;
    struct peer *peer = file_peer(world, &send, NULL, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 32 << 20);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
    close(send.fd);
}

// Ranges of a file, odd and even, adjacent to each other, arrive one after the other.
static void file_ranges_arrive_in_order(struct world *world)
{
    struct file_send send = { .fd = file_make(3, 2 << 20),
                              .ranges = { { 0, 1 },
                                          { 1, 4095 },
                                          { 4096, 65536 },
                                          { 69632, 1 },
                                          { 69633, 1000000 },
                                          { 1069633, 2 },
                                          { 1069635, (2 << 20) - 1069635 } } };
    struct subject *subject;
    struct peer *peer = file_peer(world, &send, NULL, &subject);
    peer_expect(peer, 3);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 2 << 20);
    close(send.fd);
}

// A reader that is slow gets the whole file all the same.
static void files_reach_slow_readers(struct world *world)
{
    struct file_send send = { .fd = file_make(3, 1 << 20), .ranges = { { 0, 1 << 20 } } };
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    struct peer *peer = file_peer(world, &send, &options, &subject);
    peer->read_piece = 2000;
    peer_expect(peer, 3);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 1 << 20);
    close(send.fd);
}

struct file_connect {
    struct weir_address to;
    struct service *service;
};

static void file_connect(struct weir_loop *loop, void *argument)
{
    const struct file_connect *connect = argument;
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
    struct file_send send = { .fd = file_make(3, 32 << 20), .ranges = { { 0, 32 << 20 } } };
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *control = peer_pair(world, &address, NULL, &subject);
    struct file_connect connect = {
        .service =
            world_service(world, &(struct service){ .opened = file_opened_send, .context = &send }),
    };
    struct peer *listener = peer_listen(world, "127.0.0.1:0", 8, &connect.to);
    (void)world_call(world, subject, file_connect, &connect);
    struct peer *silent = peer_accept(listener);
    for (int i = 0; i < 10; i++)
        assert_true(peer_ping(control, 1000) < 1000 * MILLISECOND);
    peer_expect(silent, 3);
    world_reaches(world, &silent->ended, 1);
    assert_int_equal(silent->received, 32 << 20);
    close(send.fd);
}

// A range behind the end of its file closes the stream with -EIO; no byte is made up.
static void ranges_beyond_the_file_end_the_stream(struct world *world)
{
    struct file_send send = { .fd = file_make(3, 100000), .ranges = { { 0, 100001 } } };
    struct subject *subject;
    struct peer *peer = file_peer(world, &send, NULL, &subject);
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
    struct file_send send = { .fd = file_make(3, 16 << 20), .ranges = { { 0, 16 << 20 } } };
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    struct peer *peer = file_peer(world, &send, &options, &subject);
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

// --- A stream to a file --------------------------------------------------------------------------

struct file_receive {
    struct weir_operation operation;
    struct world *world;
    int fd;
    uint64_t offset;
    int64_t result;
    uint32_t done;
    bool late, early_end;
};

static struct subject *file_subject(const struct weir_operation *operation)
{
    return *(struct subject **)weir_stream_session(operation->stream);
}

static void file_receive_done(struct weir_operation *operation, int64_t result)
{
    struct file_receive *receive = (struct file_receive *)operation;
    receive->world->lock(receive->world);
    const struct subject *subject = file_subject(operation);
    receive->done++;
    receive->result = result;
    receive->late |= subject->closed > 0;
    receive->early_end |= subject->ended > 0;
    receive->world->unlock(receive->world);
}

static void file_opened_receive(struct subject *subject)
{
    struct file_receive *receive = subject->service->context;
    struct weir_file *file;
    receive->world = subject->world;
    receive->operation.done = file_receive_done;
    if (weir_file_adopt(weir_stream_loop(subject->stream), dup(receive->fd), &file)) {
        world_complain(subject->world, "the descriptor is not adopted");
        return;
    }
    weir_stream_receive_file(subject->stream, file, receive->offset, &receive->operation);
    weir_file_release(file);
}

static struct peer *file_sender(struct world *world, struct file_receive *receive,
                                struct subject **ret_subject)
{
    struct service *service = world_service(
        world, &(struct service){ .opened = file_opened_receive, .context = receive });
    struct weir_address address = world_listen(world, service);
    return peer_pair(world, &address, NULL, ret_subject);
}

static void file_check(int fd, uint64_t offset, uint64_t pattern, uint64_t size)
{
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, offset + size);
    char *bytes = malloc((size_t)size);
    assert_int_equal(pread(fd, bytes, (size_t)size, (off_t)offset), size);
    assert_true(pattern_matches(pattern, 0, bytes, (size_t)size));
    free(bytes);
}

// All that a peer sends lands in the file, from the given offset on; `done` tells how much, then
// the end is told.
static void streams_are_received_into_a_file(struct world *world)
{
    struct file_receive receive = { .fd = file_make(9, 0), .offset = 12345 };
    struct subject *subject;
    struct peer *peer = file_sender(world, &receive, &subject);
    peer->end_when_sent = true;
    peer_send(peer, 6, 16 << 20);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(receive.done, 1);
    assert_int_equal(receive.result, 16 << 20);
    assert_false(receive.late);
    assert_false(receive.early_end);
    assert_int_equal(subject->ended, 1);
    assert_int_equal(subject->received, 0);
    assert_int_equal(subject->reason, 0);
    file_check(receive.fd, 12345, 6, 16 << 20);
    close(receive.fd);
}

// Small pieces land in the file as well as large ones do.
static void small_pieces_are_received_into_a_file(struct world *world)
{
    struct file_receive receive = { .fd = file_make(9, 0) };
    struct subject *subject;
    struct peer *peer = file_sender(world, &receive, &subject);
    for (uint32_t i = 0; i < 300; i++) {
        peer_send(peer, 6, 1 + i % 7);
        world_step(world, 0);
        world_step(world, 0);
    }
    peer->end_when_sent = true;
    peer_send(peer, 6, 1);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(receive.result, peer->sent);
    file_check(receive.fd, 0, 6, peer->sent);
    close(receive.fd);
}

// A peer that ends at once leaves an empty file and a result of zero.
static void an_empty_stream_is_an_empty_file(struct world *world)
{
    struct file_receive receive = { .fd = file_make(9, 0) };
    struct subject *subject;
    struct peer *peer = file_sender(world, &receive, &subject);
    peer_half_close(peer);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(receive.done, 1);
    assert_int_equal(receive.result, 0);
    assert_int_equal(subject->ended, 1);
    close(receive.fd);
}

// A peer that vanishes in the middle gives `done` an error before `closed`; the file has a true
// prefix.
static void a_reset_ends_receiving_into_a_file(struct world *world)
{
    struct file_receive receive = { .fd = file_make(9, 0) };
    struct subject *subject;
    struct peer *peer = file_sender(world, &receive, &subject);
    peer_send(peer, 6, 1 << 20);
    world_reaches(world, &peer->sent, 1 << 20);
    world_run_until_still(world);
    peer_reset(peer);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(receive.done, 1);
    assert_true(receive.result == -ECONNRESET || receive.result == -EPIPE);
    assert_false(receive.late);
    assert_int_equal(subject->reason, receive.result);
    file_check(receive.fd, 0, 6, 1 << 20);
    close(receive.fd);
}

static void file_close_stream(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_close(stream);
}

static void file_expect_full(struct world *world, struct file_receive *receive)
{
    struct subject *subject;
    struct peer *peer = file_sender(world, receive, &subject);
    peer_send(peer, 6, 8 << 20);
    world_reaches(world, &receive->done, 1);
    assert_int_equal(receive->result, -ENOSPC);
    // The protocol decides what follows; until then the stream is paused.
    world_run_until_still(world);
    assert_int_equal(subject->closed, 0);
    assert_int_equal(subject->received, 0);
    world_with(subject, file_close_stream, NULL);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(receive->done, 1);
}

// A disk that is full from the beginning gives `done` the error and pauses the stream.
static void a_full_disk_is_told_to_the_protocol(struct world *world)
{
    struct file_receive receive = { .fd = open("/dev/full", O_WRONLY | O_CLOEXEC) };
    if (receive.fd < 0)
        world_skip(world, "there is no /dev/full");
    file_expect_full(world, &receive);
    close(receive.fd);
}

// A disk that fills up in the middle of a write does the same; what was written is a true prefix.
static void a_disk_that_fills_up_is_told_to_the_protocol(struct world *world)
{
    char directory[] = "/tmp/weir-contract-XXXXXX", path[64];
    if (geteuid() != 0 || unshare(CLONE_NEWNS) || !mkdtemp(directory) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", directory, "tmpfs", 0, "size=1m"))
        world_skip(world, "a mount of its own needs root");
    snprintf(path, sizeof(path), "%s/file", directory);
    struct file_receive receive = { .fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) };
    assert_true(receive.fd >= 0);
    file_expect_full(world, &receive);
    file_check(receive.fd, 0, 6, 1 << 20);
    close(receive.fd);
    world_close(world);
    assert_int_equal(umount2(directory, MNT_DETACH), 0);
    assert_int_equal(rmdir(directory), 0);
}

// --- Operations ----------------------------------------------------------------------------------

struct file_work {
    struct weir_operation operation;
    struct world *world;
    struct weir_file *file;
    int directory;
    const char *path;
    uint64_t flags, resolve;
    char *data;
    size_t size;
    uint64_t offset;
    int64_t result;
    uint32_t done;
};

static void file_work_done(struct weir_operation *operation, int64_t result)
{
    struct file_work *work = (struct file_work *)operation;
    work->world->lock(work->world);
    work->result = result;
    work->done++;
    work->world->unlock(work->world);
}

static void file_work_open(struct weir_loop *loop, void *argument)
{
    struct file_work *work = argument;
    work->operation = (struct weir_operation){ .done = file_work_done };
    weir_file_open(loop, &work->operation, work->directory, work->path, work->flags,
                   work->flags & O_CREAT ? 0600 : 0, work->resolve, &work->file);
}

static void file_work_write(struct weir_loop *loop, void *argument)
{
    struct file_work *work = argument;
    (void)loop;
    work->operation = (struct weir_operation){ .done = file_work_done };
    weir_file_write(work->file, &work->operation, work->data, work->size, work->offset);
}

static void file_work_read(struct weir_loop *loop, void *argument)
{
    struct file_work *work = argument;
    (void)loop;
    work->operation = (struct weir_operation){ .done = file_work_done };
    weir_file_read(work->file, &work->operation, work->data, work->size, work->offset);
}

static void file_work_release(struct weir_loop *loop, void *argument)
{
    (void)loop;
    weir_file_release(((struct file_work *)argument)->file);
}

static int64_t file_do(struct file_work *work, void (*what)(struct weir_loop *loop, void *argument))
{
    uint32_t done = work->done;
    (void)world_call(work->world, NULL, what, work);
    world_reaches(work->world, &work->done, done + 1);
    assert_int_equal(work->done, done + 1);
    return work->result;
}

// A file is made, written, read back at any offset, short at its end, and released.
static void files_are_opened_written_and_read(struct world *world)
{
    char directory[] = "/tmp/weir-contract-XXXXXX";
    char *back = malloc(1 << 20);
    assert_non_null(mkdtemp(directory));
    struct file_work work = { .world = world,
                              .directory = open(directory, O_DIRECTORY | O_RDONLY | O_CLOEXEC),
                              .path = "file",
                              .flags = O_RDWR | O_CREAT | O_EXCL };
    assert_int_equal(file_do(&work, file_work_open), 0);
    assert_true(fcntl(weir_file_descriptor(work.file), F_GETFD) & FD_CLOEXEC);
    work.data = (char *)(uintptr_t)pattern_at(4, 0);
    work.size = 1 << 20;
    assert_int_equal(file_do(&work, file_work_write), 1 << 20);
    work.data = back;
    assert_int_equal(file_do(&work, file_work_read), 1 << 20);
    assert_true(pattern_matches(4, 0, back, 1 << 20));
    work.offset = (1 << 20) - 1000;
    assert_int_equal(file_do(&work, file_work_read), 1000);
    assert_true(pattern_matches(4, work.offset, back, 1000));
    work.offset = 1 << 20;
    assert_int_equal(file_do(&work, file_work_read), 0);
    (void)world_call(world, NULL, file_work_release, &work);
    unlinkat(work.directory, "file", 0);
    close(work.directory);
    free(back);
    assert_int_equal(rmdir(directory), 0);
}

// What the kernel refuses is told with its error; a path may not leave the directory it is bound
// to.
static void refused_opens_tell_why(struct world *world)
{
    struct file_work work = { .world = world,
                              .directory = open("/tmp", O_DIRECTORY | O_RDONLY | O_CLOEXEC),
                              .path = "weir-contract-missing",
                              .flags = O_RDONLY };
    assert_int_equal(file_do(&work, file_work_open), -ENOENT);
    work.path = "../etc/hostname";
    work.resolve = RESOLVE_BENEATH;
    assert_int_equal(file_do(&work, file_work_open), -EXDEV);
    work.path = "/dev/null";
    work.resolve = 0;
    work.flags = O_RDONLY | O_DIRECTORY;
    assert_int_equal(file_do(&work, file_work_open), -ENOTDIR);
    work.flags = O_RDONLY;
    assert_int_equal(file_do(&work, file_work_open), 0);
    work.data = (char[1]){ 0 };
    work.size = 1;
    assert_int_equal(file_do(&work, file_work_write), -EBADF);
    (void)world_call(world, NULL, file_work_release, &work);
    close(work.directory);
}

// What the kernel hands to its worker threads is counted, and what it does at once is not.
static void work_of_kernel_workers_is_counted(struct world *world)
{
    char directory[] = "/tmp/weir-contract-XXXXXX";
    bool ring = world->variant->engine == WEIR_ENGINE_URING;
    assert_non_null(mkdtemp(directory));
    struct file_work work = { .world = world,
                              .directory = open(directory, O_DIRECTORY | O_RDONLY | O_CLOEXEC),
                              .path = "file",
                              .flags = O_RDWR | O_CREAT | O_EXCL };
    // Making a file may wait for the disk: always a worker's.
    assert_int_equal(file_do(&work, file_work_open), 0);
    assert_int_equal(world_stats(world).worker_punts, ring);
    (void)world_call(world, NULL, file_work_release, &work);
    uint64_t before = world_stats(world).worker_punts;
    work.flags = O_RDONLY;
    assert_int_equal(file_do(&work, file_work_open), 0);
    work.data = (char[1]){ 0 };
    work.size = 1;
    assert_int_equal(file_do(&work, file_work_read), 0);
    (void)world_call(world, NULL, file_work_release, &work);
    assert_int_equal(world_stats(world).worker_punts, before);
    unlinkat(work.directory, "file", 0);
    close(work.directory);
    assert_int_equal(rmdir(directory), 0);
}

const struct contract_test file_tests[] = {
    { .name = "files_arrive_whole", .run = files_arrive_whole },
    { .name = "file_ranges_arrive_in_order", .run = file_ranges_arrive_in_order },
    { .name = "files_reach_slow_readers", .run = files_reach_slow_readers },
    { .name = "an_unread_file_holds_up_nobody", .run = an_unread_file_holds_up_nobody },
    { .name = "ranges_beyond_the_file_end_the_stream",
      .run = ranges_beyond_the_file_end_the_stream },
    { .name = "shrinking_files_end_the_stream", .run = shrinking_files_end_the_stream },
    { .name = "streams_are_received_into_a_file", .run = streams_are_received_into_a_file },
    { .name = "small_pieces_are_received_into_a_file",
      .run = small_pieces_are_received_into_a_file },
    { .name = "an_empty_stream_is_an_empty_file", .run = an_empty_stream_is_an_empty_file },
    { .name = "a_reset_ends_receiving_into_a_file", .run = a_reset_ends_receiving_into_a_file },
    { .name = "a_full_disk_is_told_to_the_protocol",
      .run = a_full_disk_is_told_to_the_protocol,
      .needs = { .kernel = true } },
    { .name = "a_disk_that_fills_up_is_told_to_the_protocol",
      .run = a_disk_that_fills_up_is_told_to_the_protocol,
      .needs = { .kernel = true } },
    { .name = "files_are_opened_written_and_read",
      .run = files_are_opened_written_and_read,
      .needs = { .kernel = true } },
    { .name = "work_of_kernel_workers_is_counted",
      .run = work_of_kernel_workers_is_counted,
      .needs = { .kernel = true } },
    { .name = "refused_opens_tell_why",
      .run = refused_opens_tell_why,
      .needs = { .kernel = true } },
    { 0 },
};
