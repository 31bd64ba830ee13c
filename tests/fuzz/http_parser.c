// Fuzz target: whatever the bytes, the parser stays inside of them, and says the same whether they
// come in one piece, byte by byte, or in two.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const char *whole, const char *data, size_t size, struct http_trace_cut cut)
{
    char *text = http_trace(data, size, cut);
    if (strcmp(whole, text) != 0) {
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
