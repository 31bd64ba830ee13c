// Fuzz target: the control connection's bytes, the commands in them, and the names in those.
//
// The first byte says where the rest is cut in two. Whatever the cut, the same lines must come out.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ascii.h"
#include "command.h"
#include "facts.h"
#include "path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static uint64_t mix(uint64_t hash, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)data[i]) * 0x100000001b3;
    return hash;
}

static void try_name(const char *argument)
{
    char path[FTP_PATH_MAX], again[FTP_PATH_MAX], text[2 * FTP_LINE_MAX], parent[FTP_PATH_MAX];
    const char *name;
    time_t time;
    check(ftp_path_encode(argument, true, text) <= 2 * strlen(argument));
    (void)ftp_path_matches(argument, "some.name");
    (void)ftp_path_matches("*a?b*", argument);
    (void)ftp_facts_parse(argument);
    (void)ftp_facts_time_parse(argument, strcspn(argument, " "), &time);
    if (ftp_path_join("/a/b", argument, path))
        return;
    // The form of a path is its own form, begins at the root, and has no name that leads up.
    check(path[0] == '/' && strlen(path) < FTP_PATH_MAX);
    check(!strstr(path, "//") && !strstr(path, "/../") && !strstr(path, "/./"));
    check(!ftp_path_join("/", path, again) && !strcmp(path, again));
    if (ftp_path_split(path, parent, &name))
        check(*name && !strchr(name, '/') && strcmp(name, "..") != 0 && parent[0] != '/');
    else
        check(!strcmp(path, "/"));
}

static uint64_t read_all(struct ftp_reader *reader, const char *data, size_t size, uint64_t hash)
{
    struct ftp_command command;
    while (size) {
        enum ftp_read read = ftp_reader_feed(reader, &data, &size);
        hash = mix(hash, (const char *)&(uint8_t){ (uint8_t)read }, read != FTP_READ_MORE);
        if (read == FTP_READ_NEGOTIATION)
            hash = mix(hash, reader->refusal, sizeof reader->refusal);
        if (read != FTP_READ_LINE)
            continue;
        check(reader->size <= FTP_LINE_MAX && strlen(reader->line) == reader->size);
        hash = mix(hash, reader->line, reader->size);
        ftp_command_parse(reader->line, &command);
        check(command.argument >= reader->line && command.argument <= reader->line + reader->size);
        try_name(command.argument);
    }
    return hash;
}

static uint64_t run(const char *data, size_t size, size_t cut)
{
    char line[FTP_LINE_MEMORY];
    struct ftp_reader reader = { .line = line };
    uint64_t hash = read_all(&reader, data, cut, 1);
    return read_all(&reader, data + cut, size - cut, hash);
}

static void try_conversion(const char *data, size_t size)
{
    struct ftp_ascii encoder = { 0 }, decoder = { 0 };
    char *wire = malloc(2 * size + 1), *back = malloc(2 * size + 2);
    if (wire && back) {
        size_t encoded = ftp_ascii_encode(&encoder, data, size, wire);
        size_t decoded = ftp_ascii_decode(&decoder, wire, encoded, back);
        decoded += ftp_ascii_decode_end(&decoder, back + decoded);
        check(encoded <= 2 * size && decoded <= encoded);
        if (size && !memchr(data, '\r', size))
            check(decoded == size && !memcmp(back, data, size));
    }
    free(wire);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    const char *text = (const char *)data + 1;
    size--;
    size_t cut = data[0] < size ? data[0] : size;
    check(run(text, size, 0) == run(text, size, cut));
    try_conversion(text, size);
    return 0;
}
