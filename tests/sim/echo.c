// The echo protocol of servers/echo.c, with what makes a stream's life hard: in some runs it pauses
// now and then, because a pause that meets bytes on their way is where credit is easily lost.
#include <string.h>

#include "run.h"

struct echo_session {
    struct weir_stream *stream;
    struct weir_timer resume;
};

// How the protocol behaves in this run.
static struct {
    struct run *run;
    bool half_closes; // it answers an end with its own and leaves the rest to the core
    bool pauses;
    struct echo_script {
        uint64_t size; // of what the client sends
        bool altered;  // a byte that came back is not the one that was sent
    } scripts[RUN_CROWD];
} echo;

// --- The protocol --------------------------------------------------------------------------------

static void echo_opened(struct weir_stream *stream)
{
    struct echo_session *session = weir_stream_session(stream);
    session->stream = stream;
}

static void echo_resume(struct weir_loop *loop, struct weir_timer *timer)
{
    struct echo_session *session = container_of(timer, struct echo_session, resume);
    (void)loop;
    weir_stream_resume(session->stream);
}

static void echo_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct run *run = echo.run;
    struct echo_session *session = weir_stream_session(stream);
    weir_stream_send_slice(stream, slice);
    if (run->quits && !sim_random(run->sim, 16))
        weir_stream_close(stream);
    if (!echo.pauses || sim_random(run->sim, 4))
        return;
    weir_stream_pause(stream);
    session->resume.function = echo_resume;
    weir_timer_start(weir_stream_loop(stream), &session->resume, sim_random(run->sim, 5000000));
}

static void echo_ended(struct weir_stream *stream)
{
    if (echo.half_closes)
        weir_stream_end(stream);
    else
        weir_stream_close(stream);
}

static void echo_closed(struct weir_stream *stream, int reason)
{
    struct echo_session *session = weir_stream_session(stream);
    (void)reason;
    weir_timer_stop(weir_stream_loop(stream), &session->resume);
}

static const struct weir_protocol echo_protocol = {
    .name = "echo",
    .session_size = sizeof(struct echo_session),
    .opened = echo_opened,
    .received = echo_received,
    .ended = echo_ended,
    .closed = echo_closed,
};

static int echo_open(struct run *run, struct weir_loop_config *config)
{
    (void)config;
    echo.run = run;
    echo.pauses = sim_random(run->sim, 3) == 0;
    echo.half_closes = sim_random(run->sim, 3) == 0;
    run->quits = sim_random(run->sim, 8) == 0;
    run->served = record_protocol(run, &echo_protocol);
    run->context = run;
    return 0;
}

// --- The client ----------------------------------------------------------------------------------

static const char *echo_output(struct client *client, size_t *ret_size)
{
    const struct echo_script *script = client->script;
    uint64_t left = script->size - client->sent;
    *ret_size = left < CLIENT_PIECE ? (size_t)left : (size_t)CLIENT_PIECE;
    return client_pattern(client->index, client->sent);
}

static bool echo_sent_all(const struct client *client)
{
    const struct echo_script *script = client->script;
    return client->sent == script->size;
}

static void echo_input(struct client *client, const char *data, size_t size)
{
    struct echo_script *script = client->script;
    const char *must = client_pattern(client->index, client->received - size);
    script->altered |= memcmp(data, must, size) != 0;
}

static const struct client_role echo_role = { .output = echo_output,
                                              .sent_all = echo_sent_all,
                                              .input = echo_input };

static void echo_draw(struct client *client)
{
    struct echo_script *script = &echo.scripts[client->index];
    *script = (struct echo_script){ .size = client_scaled(client, 17) };
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
    // An orderly end says that this was all.
    if (client->ended && client->received < client->sent && !run->quits && !run->answered &&
        !run->broken && !run->drained)
        run_complain(run, "client %u got the end after %llu of %llu bytes", client->index,
                     (unsigned long long)client->received, (unsigned long long)client->sent);
    // Whoever ends in order gets everything, unless something took the connection.
    if (client->end != CLIENT_ENDS || run_may_lose(run))
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
    .open = echo_open,
    .draw = echo_draw,
    .check_client = echo_check_client,
};
