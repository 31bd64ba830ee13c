// Sets up the ring, its table of descriptors, its buffer ring and its wake descriptor; takes them
// down. The ring is created disabled and enabled by the first turn, on the thread that runs it.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "uring.h"

static int setup_buffer_ring(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    size_t size = loop->pool.count * sizeof(struct io_uring_buf);
    size = (size + 4095) & ~(size_t)4095;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    uring->buffer_ring = memory;
    uring->buffer_ring_size = size;
    io_uring_buf_ring_init(uring->buffer_ring);
    if (uring->plan.bundles) {
        uring->places = malloc(loop->pool.count * sizeof *uring->places);
        if (!uring->places)
            return -ENOMEM;
    }
    struct io_uring_buf_reg registration = { .ring_addr = (uint64_t)(uintptr_t)memory,
                                             .ring_entries = loop->pool.count,
                                             .bgid = URING_BUFFER_GROUP };
    return uring->operations->reg(uring->operations_state, &uring->ring, IORING_REGISTER_PBUF_RING,
                                  &registration, 1);
}

static int setup_files(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    struct io_uring_rsrc_register registration = { .nr =
                                                       loop->config.streams_max + URING_FILES_EXTRA,
                                                   .flags = IORING_RSRC_REGISTER_SPARSE };
    int error = uring->operations->reg(uring->operations_state, &uring->ring,
                                       IORING_REGISTER_FILES2, &registration, sizeof registration);
    // UNTESTED: programs raise their limit of files before
    if (error == -EMFILE)
        loop_log(loop, WEIR_LOG_ERROR,
                 "io_uring: a table of %u descriptors needs a file limit as high (ulimit -n)",
                 registration.nr);
    return error;
}

static int setup_ring(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    struct io_uring_params params = { .flags = uring->plan.setup_flags,
                                      .cq_entries = URING_CQ_ENTRIES };
    int error =
        uring->operations->setup(uring->operations_state, &uring->ring, URING_SQ_ENTRIES, &params);
    if (error)
        return error;
    uring->stash = malloc(uring->ring.cq.ring_entries * sizeof *uring->stash);
    if (!uring->stash)
        error = -ENOMEM;
    if (!error)
        error = setup_buffer_ring(loop);
    if (!error && uring->plan.direct)
        error = setup_files(loop);
    if (error)
        uring->operations->teardown(uring->operations_state, &uring->ring);
    return error;
}

static void setup_free(struct uring *uring)
{
    if (uring->buffer_ring)
        munmap(uring->buffer_ring, uring->buffer_ring_size);
    free(uring->places);
    free(uring->stash);
    free(uring);
}

static int setup_init(struct weir_loop *loop, void *argument)
{
    static const struct ring_base kernel = { .operations = &ring_kernel };
    const struct ring_base *base = argument ? argument : &kernel;
    struct uring *uring = calloc(1, sizeof *uring);
    if (!uring)
        return -ENOMEM;
    uring->operations = base->operations;
    uring->operations_state = base->state;
    uring->pipe_signal = sendfile_signal_early();
    loop->engine_state = uring;
    int error = features_resolve(loop, &uring->plan);
    if (error)
        goto free_uring;
    error = uring->wake_fd = uring->operations->wake_open(uring->operations_state);
    if (error < 0)
        goto free_uring;
    error = setup_ring(loop);
    if (error)
        goto close_wake;
    return 0;
close_wake:
    uring->operations->wake_close(uring->operations_state, uring->wake_fd);
free_uring:
    setup_free(uring);
    return error;
}

// What is in flight on a ring that broke names memory that its owners free now. Its operations are
// cancelled before, and those that a worker thread is at are waited for; closing the ring alone
// cancels them some time later. A restricted ring cannot be asked that: its program is about to
// end.
static void setup_cancel_all(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    struct io_uring_sync_cancel_reg all = { .fd = -1,
                                            .flags =
                                                IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
                                            .timeout = { .tv_sec = URING_CANCEL_S } };
    (void)uring->operations->reg(uring->operations_state, &uring->ring, IORING_REGISTER_SYNC_CANCEL,
                                 &all, 1);
}

static void setup_fini(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    // The last closes may still stand in the queue, and the core waits for none of them.
    if (uring->enabled)
        uring_submit_early(loop);
    if (loop->failed && uring->enabled && !loop->config.abilities)
        setup_cancel_all(loop);
    uring_installs_end(loop);
    uring->operations->teardown(uring->operations_state, &uring->ring);
    uring->operations->wake_close(uring->operations_state, uring->wake_fd);
    setup_free(uring);
}

static void setup_wake(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    uring->operations->wake(uring->operations_state, uring->wake_fd);
}

// Multishot receives may miss the end of a unix stream: Linux 6.17 and 6.18 take a socket for
// drained when its last bytes were read, although its end stands behind them.
static const struct uring_receiving *setup_receiving(const struct weir_stream *stream)
{
    const struct uring_plan *plan = &uring_of(stream->loop)->plan;
    if (stream->peer_address.any.sa_family == AF_UNIX)
        return &plan->receive_unix;
    return stream->bulk || stream->sink ? &plan->receive_bulk : &plan->receive;
}

static void setup_receive(struct weir_loop *loop, struct weir_stream *stream)
{
    setup_receiving(stream)->arm(loop, stream);
}

static int setup_receive_cancel(struct weir_loop *loop, struct weir_stream *stream)
{
    return setup_receiving(stream)->cancel(loop, stream);
}

const struct engine engine_uring = {
    .name = "uring",
    .init = setup_init,
    .fini = setup_fini,
    .flush = uring_flush,
    .accept = uring_accept,
    .accept_cancel = uring_accept_cancel,
    .receive = setup_receive,
    .receive_cancel = setup_receive_cancel,
    .sends_file = uring_sends_file,
    .send = uring_send,
    .connect = uring_connect,
    .shutdown = uring_shutdown,
    .close = uring_close,
    .file = uring_file,
    .job = jobs_start,
    .wake = setup_wake,
};
