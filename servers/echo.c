// weir echo: sends back what it receives.
//
// This is a whole protocol, and the place to start reading. A slice that is sent on is not copied
// (see weir_slice in weir.h); a peer that does not read its echoes stops being read from; and when
// the peer has ended, the default of `ended` sends what is left and closes.
#include "commands.h"
#include "serve.h"

#define ECHO_LINGER_NS 5000000000ULL

static void echo_received(struct weir_stream *stream, struct weir_slice slice)
{
    weir_stream_send_slice(stream, slice);
}

// --total-timeout: what was received is sent back, and our end behind it. What comes after that is
// dropped for a while: a close would reset a client that still sends, and echoes might be lost.
static void echo_expired(struct weir_stream *stream)
{
    weir_stream_linger(stream, UINT64_MAX, ECHO_LINGER_NS);
}

static const struct weir_protocol echo_protocol = {
    .name = "echo",
    .received = echo_received,
    .expired = echo_expired,
};

int echo_main(int argc, char **argv)
{
    static const struct option_set options = {
        .command = "weir echo",
        .usage = "--listen ADDRESS [options]",
        .about = "Sends every byte back to where it came from.",
        .rows = serve_options,
    };
    // Nothing but connections: no file, no job, no socket of its own.
    struct sandbox_needs needs = { .abilities = WEIR_ABILITY_ACCEPT };
    struct serve_settings settings;
    serve_settings_init(&settings);
    settings.needs = &needs;
    int parsed = options_parse(&options, argc, argv, &settings);
    if (parsed)
        return parsed > 0 ? 0 : SERVE_EXIT_USAGE;
    if (settings.total_timeout_ns)
        needs.abilities |= WEIR_ABILITY_END; // echo_expired() lingers
    return serve_run(&options, &settings, &echo_protocol, NULL);
}
