// The echo protocol of servers/echo.c, with a record of what it is told. In some runs it pauses
// now and then, because a pause that meets bytes on their way is where credit is easily lost.
#include <errno.h>
#include <string.h>

#include "run.h"

struct echo_session {
    struct run_stream *record;
    struct weir_stream *stream;
    struct weir_timer resume, pay;
    struct weir_file *file;  // holds what all clients send
    uint64_t answered, kept; // bytes: queued for the client, and owed to it
};

static struct run *echo_run(const struct weir_stream *stream)
{
    return weir_stream_context(stream);
}

static struct run_stream *echo_record(struct weir_stream *stream)
{
    struct run *run = echo_run(stream);
    struct echo_session *session = weir_stream_session(stream);
    if (!session->record) {
        session->stream = stream;
        session->record = &run->streams[run->streams_count++ % RUN_STREAMS_MAX];
    }
    session->record->late |= session->record->closed > 0;
    return session->record;
}

static void echo_create_file(struct run *run)
{
    enum { PARTS = (1 << CLIENT_SIZE_BITS) / CLIENT_PIECE };
    static char content[PARTS * CLIENT_PIECE];
    for (uint64_t i = 0; i < PARTS; i++)
        memcpy(content + i * CLIENT_PIECE, client_bytes(&run->clients[0], i * CLIENT_PIECE),
               CLIENT_PIECE);
    sim_file_create(run->sim, "/content", content, sizeof content);
}

// Without a descriptor or memory for it, the stream is an echo's.
static void echo_open_file(struct weir_stream *stream)
{
    struct run *run = echo_run(stream);
    struct echo_session *session = weir_stream_session(stream);
    struct weir_loop *loop = weir_stream_loop(stream);
    int fd = sim_file_open(run->sim, "/content");
    if (fd == -ENOENT) {
        echo_create_file(run);
        fd = sim_file_open(run->sim, "/content");
    }
    if (fd >= 0 && weir_file_adopt(loop, fd, &session->file))
        loop->system->close(loop->system_state, fd);
}

static void echo_pay(struct echo_session *session)
{
    if (session->kept)
        weir_stream_send_file(session->stream, session->file, session->answered, session->kept);
    session->answered += session->kept;
    session->kept = 0;
}

static void echo_pay_late(struct weir_loop *loop, struct weir_timer *timer)
{
    (void)loop;
    echo_pay(container_of(timer, struct echo_session, pay));
}

// What is owed is kept back now and then, so that ranges of every size are sent; and sometimes a
// part comes from memory.
static void echo_answer(struct weir_stream *stream, struct weir_slice slice)
{
    struct run *run = echo_run(stream);
    struct echo_session *session = weir_stream_session(stream);
    if (!session->file || !sim_random(run->sim, 8)) {
        echo_pay(session);
        session->answered += slice.size;
        weir_stream_send_slice(stream, slice);
        return;
    }
    session->kept += slice.size;
    session->pay.function = echo_pay_late;
    if (sim_random(run->sim, 4))
        weir_timer_start(weir_stream_loop(stream), &session->pay, sim_random(run->sim, 2000000));
    else
        echo_pay(session);
}

static void echo_opened(struct weir_stream *stream)
{
    struct run_stream *record = echo_record(stream);
    if (++record->opened > 1)
        run_complain(echo_run(stream), "opened came twice");
    sim_trace(echo_run(stream)->sim, "opened", echo_run(stream)->streams_count, 0);
    if (echo_run(stream)->protocol->files)
        echo_open_file(stream);
}

static void echo_resume(struct weir_loop *loop, struct weir_timer *timer)
{
    struct echo_session *session = container_of(timer, struct echo_session, resume);
    (void)loop;
    weir_stream_resume(session->stream);
}

// Half of them linger: their end goes out by itself, and the close may come right behind it.
static void echo_quit(struct weir_stream *stream)
{
    if (sim_random(echo_run(stream)->sim, 2))
        weir_stream_close(stream);
    else
        weir_stream_linger(stream, 20000, 50000000);
}

static void echo_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct run *run = echo_run(stream);
    struct echo_session *session = weir_stream_session(stream);
    if (!echo_record(stream)->opened)
        run_complain(run, "received came before opened");
    sim_trace(run->sim, "received", (uint64_t)(session->record - run->streams),
              (int64_t)slice.size);
    echo_answer(stream, slice);
    if (run->quits && !sim_random(run->sim, 16))
        echo_quit(stream);
    if (!run->pauses || sim_random(run->sim, 4))
        return;
    weir_stream_pause(stream);
    session->resume.function = echo_resume;
    weir_timer_start(weir_stream_loop(stream), &session->resume, sim_random(run->sim, 5000000));
}

static void echo_ended(struct weir_stream *stream)
{
    struct echo_session *session = weir_stream_session(stream);
    echo_record(stream);
    echo_pay(session);
    if (echo_run(stream)->half_closes)
        weir_stream_end(stream);
    else
        weir_stream_close(stream);
}

static void echo_closed(struct weir_stream *stream, int reason)
{
    struct run_stream *record = echo_record(stream);
    struct echo_session *session = weir_stream_session(stream);
    record->closed++;
    record->reason = reason;
    weir_timer_stop(weir_stream_loop(stream), &session->resume);
    weir_timer_stop(weir_stream_loop(stream), &session->pay);
    weir_file_release(session->file);
    sim_trace(echo_run(stream)->sim, "told closed", (uint64_t)(record - echo_run(stream)->streams),
              reason);
}

static const struct weir_protocol echo_recorded = {
    .name = "echo",
    .session_size = sizeof(struct echo_session),
    .opened = echo_opened,
    .received = echo_received,
    .ended = echo_ended,
    .closed = echo_closed,
};

const struct run_protocol run_echo = { .name = "echo", .protocol = &echo_recorded };
const struct run_protocol run_file = { .name = "file", .protocol = &echo_recorded, .files = true };
