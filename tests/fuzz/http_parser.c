// Fuzz target: whatever the bytes, the parser stays inside of them, and says the same whether they
// come in one piece, byte by byte, or in two. But where a trailer or a chunk's extension is both
// too long and malformed, either may be told: llhttp shows a text when it or the input is over.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_of_chunks(unsigned status)
{
    return status == 400 || status == 413 || status == 431;
}

// Whether all is the same, but for what a refusal behind a chunked request's head says.
static bool differ_in_refusal(const char *one, const char *other)
{
    static const char mark[] = "\nrefused ";
    const char *end = one, *next = one, *head = NULL;
    unsigned statuses[2];
    while ((next = strstr(next, mark)))
        end = next++;
    size_t size = (size_t)(end - one);
    if (strncmp(one, other, size) != 0 || sscanf(end, "\nrefused %u", &statuses[0]) != 1 ||
        sscanf(other + size, "\nrefused %u", &statuses[1]) != 1)
        return false;
    for (next = one; (next = strstr(next, "\nhead ")) && next < end;)
        head = next++;
    const char *chunked = head ? strstr(head, " chunked=1 ") : NULL;
    return chunked && chunked < end && is_of_chunks(statuses[0]) && is_of_chunks(statuses[1]);
}

static void compare(const char *whole, const char *data, size_t size, struct http_trace_cut cut)
{
    char *text = http_trace(data, size, cut);
    if (strcmp(whole, text) != 0 && !differ_in_refusal(whole, text)) {
        fprintf(stderr, "cut at %zu and every %zu bytes:%s\nbut whole:%s\n", cut.first, cut.others,
                text, whole);
        abort();
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    char *whole = http_trace(bytes, size, (struct http_trace_cut){ 0, SIZE_MAX });
    compare(whole, bytes, size, (struct http_trace_cut){ 0, 1 });
    if (size > 1)
        compare(
            whole, bytes, size,
            (struct http_trace_cut){ 1 + (data[size - 1] * 31U + data[0]) % (size - 1), SIZE_MAX });
    free(whole);
    return 0;
}
