// The `weir` command, whose servers do what an attacker would: every protocol hears "effect NAME
// ARGUMENT", tries that effect where the attacker would be, in a callback on a loop's thread, and
// answers "NAME RESULT"; with "job:" before the name, in a job. Everything else goes to the
// protocol itself. So what is tried is the sandbox of the real server, with what it stated.
//
// It is linked with --wrap=serve_run.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "effects.h"
#include "serve.h"

enum { EFFECTS_TEXT_MAX = 512 };

int __real_serve_run(const struct option_set *options, const struct serve_settings *settings,
                     const struct weir_protocol *protocol, void *context);
int __wrap_serve_run(const struct option_set *options, const struct serve_settings *settings,
                     const struct weir_protocol *protocol, void *context);

// The blocking engine opens each connection on a thread of its own.
static _Atomic(struct weir_stream *) effects_victim;

// Written before any thread exists.
static const struct weir_protocol *effects_protocol;
static const struct sandbox_needs *effects_needs;

struct trial {
    struct weir_operation operation;
    struct effect_case attempt;
    const struct effect *effect;
    char argument[EFFECTS_TEXT_MAX];
};

static void effects_reply(const struct trial *trial, int64_t result)
{
    char text[EFFECTS_TEXT_MAX];
    int size = snprintf(text, sizeof text, "%s %lld\n", trial->effect->name, (long long)result);
    weir_stream_send(trial->attempt.stream, text, (size_t)size);
}

static int effects_job(struct weir_operation *operation)
{
    const struct trial *trial = (const struct trial *)operation;
    return (int)trial->effect->run(&trial->attempt);
}

static void effects_job_done(struct weir_operation *operation, int64_t result)
{
    struct trial *trial = (struct trial *)operation;
    effects_reply(trial, result);
    free(trial);
}

static void effects_try(struct weir_stream *stream, const struct effect *effect, bool as_job,
                        const char *argument)
{
    struct trial *trial = calloc(1, sizeof *trial);
    if (!trial)
        return;
    snprintf(trial->argument, sizeof trial->argument, "%s", argument);
    trial->effect = effect;
    trial->attempt = (struct effect_case){
        .stream = stream,
        .victim = effects_victim,
        .needs = effects_needs,
        .argument = trial->argument,
    };
    if (as_job) {
        trial->operation = (struct weir_operation){ .done = effects_job_done, .stream = stream };
        weir_job_start(weir_stream_loop(stream), &trial->operation, effects_job);
        return;
    }
    effects_reply(trial, effect->run(&trial->attempt));
    free(trial);
}

static const struct effect *effects_find(const struct effect *effects, const char *name)
{
    while (effects->name && strcmp(effects->name, name) != 0)
        effects++;
    return effects->name ? effects : NULL;
}

static void effects_opened(struct weir_stream *stream)
{
    struct weir_stream *none = NULL;
    atomic_compare_exchange_strong(&effects_victim, &none, stream);
    if (effects_protocol->opened)
        effects_protocol->opened(stream);
}

static void effects_received(struct weir_stream *stream, struct weir_slice slice)
{
    char text[EFFECTS_TEXT_MAX], word[EFFECTS_TEXT_MAX], argument[EFFECTS_TEXT_MAX] = "";
    snprintf(text, sizeof text, "%.*s", (int)slice.size, slice.data);
    if (sscanf(text, "effect %511s %511s", word, argument) < 1) {
        effects_protocol->received(stream, slice);
        return;
    }
    bool as_job = !strncmp(word, "job:", 4);
    const char *name = word + (as_job ? 4 : 0);
    const struct effect *effect = effects_find(effects_by_call, name);
    if (!effect)
        effect = effects_find(effects_by_ring, name);
    if (effect)
        effects_try(stream, effect, as_job, argument);
    else
        weir_stream_close(stream); // the test waits for an answer that cannot come
}

int __wrap_serve_run(const struct option_set *options, const struct serve_settings *settings,
                     const struct weir_protocol *protocol, void *context)
{
    struct weir_protocol wrapped = *protocol;
    wrapped.opened = effects_opened;
    wrapped.received = effects_received;
    effects_protocol = protocol;
    effects_needs = settings->needs;
    return __real_serve_run(options, settings, &wrapped, context);
}
