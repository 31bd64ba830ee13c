// What a loop and a server are asked to be: defaults, ranges, and the engine that `auto` means.
#include <errno.h>
#include <sched.h>

#include "engines/probe.h"
#include "server.h"

enum { SERVER_THREADS_MAX = 256 };

// --- Defaults ------------------------------------------------------------------------------------

void weir_loop_config_init(struct weir_loop_config *config)
{
    *config = (struct weir_loop_config){
        .engine = WEIR_ENGINE_AUTO,
        .uring_features = "default",
        .streams_max = 16384,
        .buffer_count = 256,
        .buffer_size = 16384,
        .send_high = 1024 * 1024,
        .send_low = 256 * 1024,
        .queued_max = 64 * 1024 * 1024,
        .close_timeout_ns = 30 * 1000000000ULL,
        .job_threads = 2,
    };
}

void weir_server_config_init(struct weir_server_config *config)
{
    *config = (struct weir_server_config){
        .threads = 1,
        .drain_timeout_ns = 10 * 1000000000ULL,
        .drain_quiet_ns = 200 * 1000000ULL,
    };
    weir_loop_config_init(&config->loop);
}

// --- Ranges --------------------------------------------------------------------------------------

const char *loop_config_fault(const struct weir_loop_config *config)
{
    uint32_t count = config->buffer_count;
    if (config->engine > WEIR_ENGINE_BLOCKING)
        return "engine";
    if (config->streams_max < 1 || config->streams_max > 1000000)
        return "streams_max: 1 to 1,000,000";
    if (count < 8 || count > 32768 || (count & (count - 1)))
        return "buffer_count: a power of two from 8 to 32,768";
    if (config->buffer_size < 4096 || config->buffer_size > 65536 || config->buffer_size % 4096)
        return "buffer_size: 4 to 64 KiB, a multiple of 4 KiB";
    if (config->send_low >= config->send_high || config->send_high > 1U << 30)
        return "send_low must be below send_high, and that at most 1 GiB";
    if (config->job_threads < 1 || config->job_threads > 64)
        return "job_threads: 1 to 64";
    if (config->min_wait_ns > LOOP_MIN_WAIT_MAX_NS)
        return "min_wait_ns: at most 100 ms";
    if (config->min_wait_ns && config->busy_poll_ns)
        return "min_wait_ns: not with busy_poll_ns";
    if (config->min_wait_ns &&
        (config->engine == WEIR_ENGINE_EPOLL || config->engine == WEIR_ENGINE_BLOCKING))
        return "min_wait_ns: only the uring engine has it";
    return NULL;
}

const char *server_config_fault(const struct weir_server_config *config)
{
    if (config->threads < 1 || config->threads > SERVER_THREADS_MAX)
        return "threads: 1 to 256";
    if (config->loop.engine == WEIR_ENGINE_BLOCKING && config->threads != 1)
        return "threads: the blocking engine has a thread per connection instead";
    for (size_t i = 0; i < config->cpus_count; i++) {
        if (config->cpus[i] >= CPU_SETSIZE)
            return "cpus: 0 to 1023";
    }
    // Not left to the loops: the blocking engine's connections make theirs when they come.
    return loop_config_fault(&config->loop);
}

// --- The engine ----------------------------------------------------------------------------------

static void config_log_fallback(const struct weir_loop_config *config, const char *reason)
{
    struct weir_loop log = { .config = *config };
    loop_log(&log, WEIR_LOG_WARNING, "io_uring is not available, using epoll%s: %s",
             config->min_wait_ns ? " without min_wait_ns" : "", reason);
}

static const struct engine *config_engine(const struct weir_loop_config *config, int *ret_error)
{
    char reason[256];
    *ret_error = 0;
    switch (config->engine) {
    case WEIR_ENGINE_EPOLL:
        return &engine_epoll;
    case WEIR_ENGINE_BLOCKING:
        return &engine_blocking;
    case WEIR_ENGINE_URING:
    case WEIR_ENGINE_AUTO:
        break;
    }
    int error = weir_uring_available(reason, sizeof reason);
    if (!error)
        return &engine_uring;
    if (config->engine == WEIR_ENGINE_AUTO) {
        config_log_fallback(config, reason);
        return &engine_epoll;
    }
    struct weir_loop log = { .config = *config };
    loop_log(&log, WEIR_LOG_ERROR, "io_uring is not available: %s", reason);
    *ret_error = error;
    return NULL;
}

bool loop_falls_back(const struct weir_loop_config *config, int error)
{
    struct probe_facts facts;
    char reason[256];
    if (config->engine != WEIR_ENGINE_AUTO || (error != -ENOMEM && error != -EMFILE))
        return false;
    probe_gather(error, &facts);
    probe_explain(&facts, reason, sizeof reason);
    config_log_fallback(config, reason);
    return true;
}

int weir_loop_create(const struct weir_loop_config *config, struct weir_loop **ret_loop)
{
    int error;
    struct loop_base base = { .system = &system_kernel };
    base.engine = config_engine(config, &error);
    if (error)
        return error;
    error = loop_create_on(config, &base, ret_loop);
    if (error && base.engine == &engine_uring && loop_falls_back(config, error)) {
        base.engine = &engine_epoll;
        error = loop_create_on(config, &base, ret_loop);
    }
    if (!error && config->engine == WEIR_ENGINE_AUTO && base.engine == &engine_epoll)
        stats_add(*ret_loop, fallbacks, 1);
    return error;
}
