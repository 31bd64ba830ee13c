// Command lines: the words are split at line ends; what is accepted lies in its range.
#include <servers/options.h>
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[OPTIONS_TEXT_MAX], *words[OPTIONS_WORDS_MAX + 1];
    struct options_settings settings = { .count = 1, .size = 4096, .text = "default" };
    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (options_parse(&options_set, options_split(text, words), words, &settings))
        return 0;
    fuzz_require(settings.count >= 1 && settings.count <= 100, "a count out of its range");
    fuzz_require(settings.size >= 4096 && settings.size <= 1 << 20, "a size out of its range");
    fuzz_require(settings.seconds <= 60000000000, "a time out of its range");
    fuzz_require(settings.octal <= 0777, "a mode out of its range");
    fuzz_require(settings.text[0] != '\0', "an empty text");
    return 0;
}
