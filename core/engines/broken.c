// What stands in for an engine that broke and is gone, while its loop ends: nothing is done any
// more, and whoever asks is told so. See loop_abandon().
#include "../loop.h"

// UNTESTED: the core asks for it only where a mistake is
static void broken_accept(struct weir_loop *loop, struct weir_listener *listener, uint32_t index)
{
    (void)loop;
    (void)listener;
    (void)index;
}

// UNTESTED: the core asks for it only where a mistake is
static void broken_accept_cancel(struct weir_loop *loop, struct weir_listener *listener)
{
    (void)loop;
    (void)listener;
}

// Every stream is closing by now, so the core asks for none of these.
// UNTESTED: the core asks for it only where a mistake is
static void broken_receive(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)loop;
    (void)stream;
}

// UNTESTED: the core asks for it only where a mistake is
static int broken_receive_cancel(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)loop;
    (void)stream;
    return 0;
}

// UNTESTED: the core asks for it only where a mistake is
static int64_t broken_send(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)stream;
    return loop->failure;
}

// UNTESTED: the core asks for it only where a mistake is
static void broken_connect(struct weir_loop *loop, struct weir_stream *stream,
                           const struct weir_address *address)
{
    (void)loop;
    (void)stream;
    (void)address;
}

// stream_abandon() has closed the descriptor.
// UNTESTED: the core asks for it only where a mistake is
static int broken_close(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)loop;
    (void)stream;
    return 0;
}

// It keeps its slot, in which loop_abandon() finds it.
static void broken_file(struct weir_loop *loop, struct weir_operation *operation)
{
    (void)loop;
    (void)operation;
}

// Some must run whatever happens: what removes the parts of an upload.
static void broken_job(struct weir_loop *loop, struct weir_operation *operation)
{
    if (loop->jobs || loop->background_jobs || loop->system->job)
        jobs_start(loop, operation);
    else
        jobs_run(loop, operation); // UNTESTED: engines that break have helpers by then
}

static void broken_wake(struct weir_loop *loop)
{
    (void)loop;
}

const struct engine engine_broken = {
    .name = "broken",
    .accept = broken_accept,
    .accept_cancel = broken_accept_cancel,
    .receive = broken_receive,
    .receive_cancel = broken_receive_cancel,
    .send = broken_send,
    .connect = broken_connect,
    .shutdown = broken_receive,
    .close = broken_close,
    .file = broken_file,
    .job = broken_job,
    .wake = broken_wake,
};
