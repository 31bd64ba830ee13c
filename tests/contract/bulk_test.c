// Streams of which much is expected: the uring engine may receive many buffers at once for them.
// The hint changes what that costs, and nothing of what a protocol is told.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "world.h"

enum { BULK_UPLOADS = 48 };

static void bulk_opened(struct subject *subject)
{
    weir_stream_set_bulk(subject->stream, true);
}

static void bulk_read_plan(struct weir_stream *stream, void *argument)
{
    const char *plan = weir_loop_plan(weir_stream_loop(stream));
    const char *name = strstr(plan, "receive-bundle");
    *(bool *)argument = name && (name == plan || name[-1] == ' ');
}

static void bulk_set(struct weir_stream *stream, void *argument)
{
    weir_stream_set_bulk(stream, *(const bool *)argument);
}

static void bulk_pause(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_pause(stream);
}

static void bulk_resume(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_resume(stream);
}

// Every byte comes, in order, and in bundles if and only if the plan has them.
static void what_is_expected_arrives_in_order(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = bulk_opened, .pattern = 4 });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    bool bundles = false;
    world_with(subject, bulk_read_plan, &bundles);
    peer->end_when_sent = true;
    peer_send(peer, 4, 24 << 20);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->received, 24 << 20);
    assert_int_equal(subject->mismatches, 0);
    assert_int_equal(world_stats(world).received_bundles > 0, bundles);
}

// Nobody pays for it who did not ask: without the hint, each completion brings one slice.
static void nothing_comes_in_bundles_unasked(struct world *world)
{
    struct service *service = world_service(world, &(struct service){ .pattern = 4 });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_send(peer, 4, 4 << 20);
    world_reaches(world, &subject->received, 4 << 20);
    assert_int_equal(subject->mismatches, 0);
    assert_int_equal(world_stats(world).received_bundles, 0);
}

// The hint may change at any time, also between the arming of a receive and its cancel: a pause
// ends what is armed, and nothing is lost.
static void the_hint_may_change_while_a_receive_is_armed(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = bulk_opened, .pattern = 4 });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    bool bulk = true;
    uint64_t sent = 0;
    for (int round = 0; round < 6; round++) {
        peer_send(peer, 4, 3 << 20);
        sent += 3 << 20;
        world_reaches(world, &subject->received, sent);
        bulk = !bulk;
        world_with(subject, bulk_set, &bulk);
        world_with(subject, bulk_pause, NULL);
        world_run_until_still(world);
        peer_send(peer, 4, 100000);
        sent += 100000;
        world_run_until_still(world);
        // Of what comes meanwhile, a buffer is kept at most.
        assert_int_equal(subject->received, sent - 100000);
        assert_in_range(world_stats(world).received_bytes, sent - 100000,
                        sent - 100000 + world->config->buffer_size);
        world_with(subject, bulk_resume, NULL);
        world_reaches(world, &subject->received, sent);
    }
    assert_int_equal(subject->mismatches, 0);
}

// --- Uploads -------------------------------------------------------------------------------------

struct bulk_upload {
    struct weir_operation operation;
    struct world *world;
    int fd;
    int64_t result;
    uint32_t done;
};

struct bulk_uploads {
    struct bulk_upload uploads[BULK_UPLOADS];
    uint32_t count;
};

static void bulk_uploaded(struct weir_operation *operation, int64_t result)
{
    struct bulk_upload *upload = (struct bulk_upload *)operation;
    upload->world->lock(upload->world);
    upload->result = result;
    upload->done++;
    upload->world->unlock(upload->world);
}

static void bulk_opened_upload(struct subject *subject)
{
    struct bulk_uploads *uploads = subject->service->context;
    struct bulk_upload *upload = &uploads->uploads[uploads->count++];
    struct weir_file *file;
    upload->world = subject->world;
    upload->operation.done = bulk_uploaded;
    if (weir_file_adopt(weir_stream_loop(subject->stream), dup(upload->fd), &file)) {
        world_complain(subject->world, "the descriptor is not adopted");
        return;
    }
    weir_stream_receive_file(subject->stream, file, 0, &upload->operation);
    weir_file_release(file);
}

static void bulk_check(const struct bulk_upload *upload, uint64_t size)
{
    struct stat status;
    char *bytes = malloc((size_t)size);
    assert_int_equal(upload->done, 1);
    assert_int_equal(upload->result, size);
    assert_int_equal(fstat(upload->fd, &status), 0);
    assert_int_equal(status.st_size, size);
    assert_int_equal(pread(upload->fd, bytes, (size_t)size, 0), size);
    assert_true(pattern_matches(6, 0, bytes, (size_t)size));
    free(bytes);
}

// Uploads of which the credit ends a few bytes behind their last byte may leave a buffer behind
// that the kernel has cut to those few. The next one, which finds that buffer first, has all its
// bytes all the same.
static void uploads_of_any_length_follow_one_another(struct world *world)
{
    static struct bulk_uploads uploads;
    struct service *service = world_service(
        world, &(struct service){ .opened = bulk_opened_upload, .context = &uploads });
    struct weir_address address = world_listen(world, service);
    memset(&uploads, 0, sizeof(uploads));
    for (uint32_t i = 0; i < BULK_UPLOADS; i++)
        uploads.uploads[i].fd = world_file(9, 0);
    for (uint32_t i = 0; i < BULK_UPLOADS; i++) {
        uint64_t size = (1 << 20) - 1 - 97 * i;
        struct subject *subject;
        struct peer *peer = peer_pair(world, &address, NULL, &subject);
        peer->end_when_sent = true;
        peer_send(peer, 6, size);
        world_reaches(world, &subject->closed, 1);
        bulk_check(&uploads.uploads[i], size);
        close(uploads.uploads[i].fd);
    }
}

const struct contract_test bulk_tests[] = {
    { .name = "what_is_expected_arrives_in_order", .run = what_is_expected_arrives_in_order },
    { .name = "nothing_comes_in_bundles_unasked", .run = nothing_comes_in_bundles_unasked },
    { .name = "the_hint_may_change_while_a_receive_is_armed",
      .run = the_hint_may_change_while_a_receive_is_armed },
    { .name = "uploads_of_any_length_follow_one_another",
      .run = uploads_of_any_length_follow_one_another },
    { 0 },
};
