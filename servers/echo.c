// weir echo: sends back what it receives.
//
// This is a whole protocol, and the place to start reading. A slice that is sent on is not copied
// (see weir_slice in weir.h); a peer that does not read its echoes stops being read from; and when
// the peer has ended, the default of `ended` sends what is left and closes.
#include "commands.h"
#include "serve.h"

static void echo_received(struct weir_stream *stream, struct weir_slice slice)
{
    weir_stream_send_slice(stream, slice);
}

static const struct weir_protocol echo_protocol = {
    .name = "echo",
    .received = echo_received,
};

// Nothing but connections: no file, no job, no socket of its own.
static const struct sandbox_needs echo_needs = { .abilities = WEIR_ABILITY_ACCEPT };

int echo_main(int argc, char **argv)
{
    static const struct option_set options = {
        .command = "weir echo",
        .usage = "--listen ADDRESS [options]",
        .about = "Sends every byte back to where it came from.",
        .rows = serve_options,
    };
    struct serve_settings settings;
    serve_settings_init(&settings);
    settings.needs = &echo_needs;
    int parsed = options_parse(&options, argc, argv, &settings);
    if (parsed)
        return parsed > 0 ? 0 : SERVE_EXIT_USAGE;
    return serve_run(&options, &settings, &echo_protocol, NULL);
}
