// differential_test: one script after the other, each on every engine.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "script.h"

// On the simulated kernel each script is also played so often with faults.
enum { DIFFERENTIAL_FAULTS = 6, DIFFERENTIAL_TESTS_MAX = 64, DIFFERENTIAL_EXCERPT = 160 };

static const char *const engines[] = { "uring:default", "uring:kernel-6.1", "epoll",
                                       "blocking",      "sim:default",      "sim:kernel-6.1" };

// For the world: tests here need nothing that an engine may lack.
void world_skip(struct world *world, const char *reason)
{
    (void)world;
    fprintf(stderr, "a script may not be skipped: %s\n", reason);
    abort();
}

static void play_on(const struct script *script, const char *engine, uint64_t seed,
                    struct text *ret_transcript)
{
    struct variant variant;
    struct stage stage;
    struct weir_address address;
    assert_true(variant_find(engine, &variant));
    stage_open(&stage, &variant, seed);
    script->served->start(&stage, &address);
    print_message("%s on %s, faults %llu\n", script->name, engine, (unsigned long long)seed);
    script_play(script, stage.world, &address, ret_transcript);
    stage_settle(&stage);
    text_format(ret_transcript, "-- files\n");
    stage_list(&stage, ".", ret_transcript);
    stage_close(&stage, script->served);
}

static size_t differs_at(const struct text *a, const struct text *b)
{
    size_t at = 0, least = a->size < b->size ? a->size : b->size;
    while (at < least && a->data[at] == b->data[at])
        at++;
    return at;
}

static void print_excerpt(const char *engine, const struct text *text, size_t at)
{
    size_t from = at < DIFFERENTIAL_EXCERPT ? 0 : at - DIFFERENTIAL_EXCERPT;
    print_error("--- %s, %zu bytes, from byte %zu on:\n", engine, text->size, from);
    for (size_t i = from; i < text->size && i < at + DIFFERENTIAL_EXCERPT; i++) {
        char byte = text->data[i];
        print_error("%c", (byte >= ' ' && byte <= '~') || byte == '\n' ? byte : '?');
    }
    print_error("\n");
}

static void compare(const struct script *script, const struct text *first, const char *engine,
                    const struct text *told)
{
    size_t at = differs_at(first, told);
    if (at == first->size && at == told->size)
        return;
    print_excerpt(engines[0], first, at);
    print_excerpt(engine, told, at);
    fail_msg("%s: %s says something else than %s", script->name, engine, engines[0]);
}

static void play_and_compare(const struct script *script, const char *engine, uint64_t seed,
                             const struct text *first)
{
    struct text told = { 0 };
    play_on(script, engine, seed, &told);
    compare(script, first, engine, &told);
    text_free(&told);
}

static void play_on_all(const struct script *script, struct text *ret_first)
{
    play_on(script, engines[0], 0, ret_first);
    if (getenv("WEIR_TRANSCRIPTS"))
        fwrite(ret_first->data, 1, ret_first->size, stderr);
    if (!memmem(ret_first->data, ret_first->size, script->proof, strlen(script->proof)))
        fail_msg("%s: '%s' was not seen", script->name, script->proof);
    for (size_t i = 1; i < sizeof engines / sizeof *engines; i++)
        play_and_compare(script, engines[i], 0, ret_first);
}

// Whichever engine serves a script's client, it is told the same bytes, the same files are left,
// and nothing is held any more.
static void the_script_gives_the_same_bytes_on_every_engine(void **state)
{
    struct text first = { 0 };
    play_on_all(*state, &first);
    text_free(&first);
}

// And so it is however the kernel cuts, delays and reorders what it does.
static void the_script_gives_the_same_bytes_whatever_the_kernel_does(void **state)
{
    struct text first = { 0 };
    play_on_all(*state, &first);
    for (uint64_t seed = 1; seed <= DIFFERENTIAL_FAULTS; seed++)
        play_and_compare(*state, seed % 2 ? "sim:default" : "sim:kernel-6.1", seed, &first);
    text_free(&first);
}

static size_t collect(const struct script *scripts, CMUnitTestFunction test, const char *name,
                      struct CMUnitTest *ret_tests)
{
    static char names[DIFFERENTIAL_TESTS_MAX][64];
    static size_t used;
    size_t count = 0;
    for (; scripts->name; scripts++) {
        if (used == DIFFERENTIAL_TESTS_MAX)
            abort();
        snprintf(names[used], sizeof names[used], "%s: %s", scripts->served->name, scripts->name);
        if (name && !strstr(names[used], name))
            continue;
        ret_tests[count++] = (struct CMUnitTest){ .name = names[used++],
                                                  .test_func = test,
                                                  .initial_state = (void *)(uintptr_t)scripts };
    }
    return count;
}

int main(int argc, char **argv)
{
    static struct CMUnitTest tests[DIFFERENTIAL_TESTS_MAX];
    const char *name = argc > 1 ? argv[1] : NULL;
    umask(022);
    const CMUnitTestFunction on_every_engine = the_script_gives_the_same_bytes_on_every_engine;
    const CMUnitTestFunction whatever = the_script_gives_the_same_bytes_whatever_the_kernel_does;
    size_t count = collect(http_framed_scripts, on_every_engine, name, tests);
    count += collect(http_scripts, whatever, name, tests + count);
    count += collect(ftp_scripts, whatever, name, tests + count);
    return _cmocka_run_group_tests("differential", tests, count, NULL, NULL) ? 1 : 0;
}
