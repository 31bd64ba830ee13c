// Command lines: the words are split at line ends; what is accepted lies in its range. They are
// read by a table that has each kind of option, and by the one that all servers have.
#include <servers/serve.h>
#include <string.h>

#include "target.h"

enum { OPTIONS_WORDS_MAX = 64, OPTIONS_TEXT_MAX = 2048 };

struct options_settings {
    uint64_t count, size, seconds, octal;
    const char *text;
    bool flag, custom;
};

static const char *options_custom(const char *text, void *settings)
{
    ((struct options_settings *)settings)->custom = true;
    return text[0] == 'x' ? NULL : "a word with x";
}

#define OPTIONS_AT(member) offsetof(struct options_settings, member)

static const struct option_row options_rows[] = {
    { "count", "N", "", OPTIONS_AT(count), 1, 100, NULL, OPTION_COUNT },
    { "size", "SIZE", "", OPTIONS_AT(size), 4096, 1 << 20, NULL, OPTION_SIZE },
    { "seconds", "S", "", OPTIONS_AT(seconds), 0, 60000000000, NULL, OPTION_SECONDS },
    { "octal", "MODE", "", OPTIONS_AT(octal), 0, 0777, NULL, OPTION_OCTAL },
    { "text", "TEXT", "", OPTIONS_AT(text), 0, 0, NULL, OPTION_TEXT },
    { "flag", NULL, "", OPTIONS_AT(flag), 0, 0, NULL, OPTION_FLAG },
    { "custom", "X", "", 0, 0, 0, options_custom, OPTION_CUSTOM },
    { 0 },
};

static const struct option_set options_set = { "fuzz", "", "", options_rows };

static int options_split(char *text, char **ret_words)
{
    int count = 0;
    static char name[] = "fuzz";
    ret_words[count++] = name;
    for (char *word = strtok(text, "\n"); word && count < OPTIONS_WORDS_MAX;
         word = strtok(NULL, "\n"))
        ret_words[count++] = word;
    ret_words[count] = NULL;
    return count;
}

static void try_kinds(char *text)
{
    char *words[OPTIONS_WORDS_MAX + 1];
    struct options_settings settings = { .count = 1, .size = 4096, .text = "default" };
    if (options_parse(&options_set, options_split(text, words), words, &settings))
        return;
    fuzz_require(settings.count >= 1 && settings.count <= 100, "a count out of its range");
    fuzz_require(settings.size >= 4096 && settings.size <= 1 << 20, "a size out of its range");
    fuzz_require(settings.seconds <= 60000000000, "a time out of its range");
    fuzz_require(settings.octal <= 0777, "a mode out of its range");
    fuzz_require(settings.text[0] != '\0', "an empty text");
}

static void try_servers(char *text)
{
    static const struct option_set set = { "weir fuzz", "", "", serve_options };
    static struct serve_settings settings;
    char *words[OPTIONS_WORDS_MAX + 1], printed[WEIR_ADDRESS_TEXT_SIZE];
    struct weir_address again;
    serve_settings_init(&settings);
    if (options_parse(&set, options_split(text, words), words, &settings))
        return;
    fuzz_require(settings.listens_count <= SERVE_LISTENS_MAX, "too many listeners");
    for (size_t i = 0; i < settings.listens_count; i++) {
        weir_address_print(&settings.listens[i], printed);
        fuzz_require(!weir_address_parse(printed, &again), "a printed listener is refused");
    }
    fuzz_require(settings.cpus_count <= SERVE_CPUS_MAX, "too many CPUs");
    for (size_t i = 0; i < settings.cpus_count; i++)
        fuzz_require(settings.cpus[i] < SERVE_CPUS_MAX, "a CPU out of its range");
    fuzz_require(settings.buffers >= 8 && settings.buffers <= 32768 &&
                     !(settings.buffers & (settings.buffers - 1)),
                 "a number of buffers that a ring does not take");
    fuzz_require(settings.sandbox <= SANDBOX_STRICT, "an unknown sandbox");
    fuzz_require(settings.threads >= 1 && settings.unix_mode <= 0777, "a number out of its range");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(char *) = { try_kinds, try_servers };
    for (size_t i = 0; size < OPTIONS_TEXT_MAX && i < sizeof tries / sizeof tries[0]; i++) {
        char text[OPTIONS_TEXT_MAX];
        memcpy(text, data, size);
        text[size] = '\0';
        tries[i](text);
    }
    return 0;
}
