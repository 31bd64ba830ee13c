// The echo protocol of servers/echo.c, with what makes a stream's life hard: in some runs it pauses
// now and then, because a pause that meets bytes on their way is where credit is easily lost; and
// in some much is expected of streams, now and then or always.
// `file` is the same with a file for an answer: all clients send what is in it.
#include <string.h>

#include "run.h"

#define ECHO_FILE "content"

#define ECHO_LINGER_NS 5000000000ULL

enum { ECHO_SIZE_BITS = 17, ECHO_FILE_KEY = 0 };

struct echo_session {
    struct weir_stream *stream;
    struct weir_timer resume, pay;
    struct weir_file *file;  // holds what all clients send
    uint64_t answered, kept; // bytes: queued for the client, and owed to it
};

// How the protocol behaves in this run.
static struct {
    struct run *run;
    bool half_closes; // it answers an end with its own and leaves the rest to the core
    bool pauses;
    uint64_t bulk; // much is expected of one stream in so many; 0: of none
    struct echo_script {
        uint64_t size; // of what the client sends
        bool altered;  // a byte that came back is not the one that was sent
    } scripts[RUN_CROWD];
} echo;

// --- The protocol --------------------------------------------------------------------------------

// Without a descriptor or memory for it, the stream is an echo's.
static void echo_open_file(struct weir_stream *stream)
{
    struct echo_session *session = weir_stream_session(stream);
    struct weir_loop *loop = weir_stream_loop(stream);
    int fd = sim_file_open(echo.run->sim, ECHO_FILE);
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
    struct run *run = echo.run;
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

static void echo_expect(struct weir_stream *stream)
{
    if (echo.bulk)
        weir_stream_set_bulk(stream, sim_random(echo.run->sim, echo.bulk) == 0);
}

static void echo_opened(struct weir_stream *stream)
{
    struct echo_session *session = weir_stream_session(stream);
    session->stream = stream;
    echo_expect(stream);
    if (echo.run->protocol->files)
        echo_open_file(stream);
}

static void echo_resume(struct weir_loop *loop, struct weir_timer *timer)
{
    struct echo_session *session = container_of(timer, struct echo_session, resume);
    (void)loop;
    weir_stream_resume(session->stream);
}

// Half of them linger: their end goes out by itself, and the close may come right behind it. What
// was received is owed all the same.
static void echo_quit(struct weir_stream *stream)
{
    echo_pay(weir_stream_session(stream));
    if (sim_random(echo.run->sim, 2))
        weir_stream_close(stream);
    else
        weir_stream_linger(stream, 20000, 50000000);
}

static void echo_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct run *run = echo.run;
    struct echo_session *session = weir_stream_session(stream);
    echo_answer(stream, slice);
    if (run->quits && !sim_random(run->sim, 16))
        echo_quit(stream);
    if (!sim_random(run->sim, 16))
        echo_expect(stream);
    if (!echo.pauses || sim_random(run->sim, 4))
        return;
    weir_stream_pause(stream);
    session->resume.function = echo_resume;
    weir_timer_start(weir_stream_loop(stream), &session->resume, sim_random(run->sim, 5000000));
}

static void echo_ended(struct weir_stream *stream)
{
    struct echo_session *session = weir_stream_session(stream);
    echo_pay(session);
    if (echo.half_closes)
        weir_stream_end(stream);
    else
        weir_stream_close(stream);
}

// One in four does what weir echo does, and another goes on, until it is aborted.
static void echo_expired(struct weir_stream *stream)
{
    uint64_t how = sim_random(echo.run->sim, 4);
    if (how == 0) {
        echo_pay(weir_stream_session(stream));
        weir_stream_linger(stream, UINT64_MAX, ECHO_LINGER_NS);
    } else if (how > 1) {
        echo_quit(stream);
    }
}

static void echo_closed(struct weir_stream *stream, int reason)
{
    struct echo_session *session = weir_stream_session(stream);
    (void)reason;
    weir_timer_stop(weir_stream_loop(stream), &session->resume);
    weir_timer_stop(weir_stream_loop(stream), &session->pay);
    weir_file_release(session->file);
}

static const struct weir_protocol echo_protocol = {
    .name = "echo",
    .session_size = sizeof(struct echo_session),
    .opened = echo_opened,
    .received = echo_received,
    .ended = echo_ended,
    .expired = echo_expired,
    .closed = echo_closed,
};

static void echo_create_file(struct run *run)
{
    enum { PARTS = (1 << ECHO_SIZE_BITS) / CLIENT_PIECE };
    static char content[PARTS * CLIENT_PIECE];
    for (uint64_t at = 0; at < sizeof content; at += CLIENT_PIECE)
        memcpy(content + at, client_pattern(ECHO_FILE_KEY, at), CLIENT_PIECE);
    sim_file_create(run->sim, ECHO_FILE, content, sizeof content);
}

static int echo_open(struct run *run, struct weir_loop_config *config)
{
    (void)config;
    echo.run = run;
    echo.pauses = sim_random(run->sim, 3) == 0;
    echo.bulk = sim_random(run->sim, 4);
    echo.half_closes = sim_random(run->sim, 3) == 0;
    run->quits = sim_random(run->sim, 8) == 0;
    run->served = record_protocol(run, &echo_protocol);
    run->context = run;
    if (run->protocol->files)
        echo_create_file(run);
    return 0;
}

// --- The client ----------------------------------------------------------------------------------

static const char *echo_bytes(const struct client *client, uint64_t offset)
{
    uint64_t key = client->run->protocol->files ? ECHO_FILE_KEY : client->index;
    return client_pattern(key, offset);
}

static const char *echo_output(struct client *client, size_t *ret_size)
{
    const struct echo_script *script = client->script;
    uint64_t left = script->size - client->sent;
    *ret_size = left < CLIENT_PIECE ? (size_t)left : (size_t)CLIENT_PIECE;
    return echo_bytes(client, client->sent);
}

static bool echo_sent_all(const struct client *client)
{
    const struct echo_script *script = client->script;
    return client->sent == script->size;
}

static void echo_input(struct client *client, const char *data, size_t size)
{
    struct echo_script *script = client->script;
    const char *must = echo_bytes(client, client->received - size);
    script->altered |= memcmp(data, must, size) != 0;
}

static const struct client_role echo_role = { .output = echo_output,
                                              .sent_all = echo_sent_all,
                                              .input = echo_input };

static void echo_draw(struct client *client)
{
    struct echo_script *script = &echo.scripts[client->index];
    *script = (struct echo_script){ .size = client_scaled(client, ECHO_SIZE_BITS) };
    client->role = &echo_role;
    client->script = script;
    if (client->run->crowded)
        script->size = 4000 + client_random(client, 8000);
    client_draw(client, 2 * script->size);
    if (!client->run->crowded)
        return;
    // They all push as much as they can.
    client->write_max = CLIENT_PIECE;
    client->step_max_ns = 5000;
}

static void echo_check_client(struct run *run, struct client *client)
{
    const struct echo_script *script = client->script;
    if (script->altered)
        run_complain(run, "client %u got altered bytes among %llu", client->index,
                     (unsigned long long)client->received);
    if (client->received > client->sent)
        run_complain(run, "client %u got more than it sent", client->index);
    // Whatever ended a stream in order: what it took has come back. But a drain closes streams that
    // are silent, and knows nothing of what `file` keeps back.
    bool keeps = run->protocol->files && run->drained;
    if (client->ended && client->served && client->received != client->taken && !keeps)
        run_complain(run, "client %u got the end after %llu of the %llu bytes that were taken",
                     client->index, (unsigned long long)client->received,
                     (unsigned long long)client->taken);
    // An orderly end says that this was all.
    if (client->ended && client->received < client->sent && !run->quits && !run->answered &&
        !run->broken && !client->excused)
        run_complain(run, "client %u got the end after %llu of %llu bytes", client->index,
                     (unsigned long long)client->received, (unsigned long long)client->sent);
    // Whoever ends in order gets everything, unless something took the connection.
    bool faulty = run->protocol->files && run->faults.chances[SIM_FILE_ERROR];
    if (client->end != CLIENT_ENDS || run_may_lose_client(run, client) || faulty)
        return;
    if (!client->ended)
        run_complain(run, "client %u did not get the end: %s", client->index,
                     strerror(-client->error));
    if (client->received != script->size)
        run_complain(run, "client %u got %llu of %llu bytes", client->index,
                     (unsigned long long)client->received, (unsigned long long)script->size);
}

const struct run_protocol run_echo = {
    .name = "echo",
    .clients_max = RUN_CLIENTS_MAX,
    .crowds = true,
    .bulk = true,
    .open = echo_open,
    .draw = echo_draw,
    .check_client = echo_check_client,
};

const struct run_protocol run_file = {
    .name = "file",
    .clients_max = RUN_CLIENTS_MAX,
    .files = true,
    .bulk = true,
    .open = echo_open,
    .draw = echo_draw,
    .check_client = echo_check_client,
};
