// Files: streams received into a file, and the operations on their own.
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
    struct file_receive receive = { .fd = world_file(9, 0), .offset = 12345 };
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
    struct file_receive receive = { .fd = world_file(9, 0) };
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
    struct file_receive receive = { .fd = world_file(9, 0) };
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
    struct file_receive receive = { .fd = world_file(9, 0) };
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
