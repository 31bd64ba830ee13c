// Fuzz target: what the HTTP server reads beside the parser. The first byte says what the rest is
// taken for. What comes out is computed again in another way, or written and read again.
#include "http_text.h"

#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(struct http_text text) = {
        try_date,    try_number, try_list,    try_names,  try_path,
        try_escapes, try_target, try_codings, try_accept, try_condition,
    };
    if (size)
        tries[data[0] % (sizeof tries / sizeof tries[0])](
            (struct http_text){ (const char *)data + 1, size - 1 });
    return 0;
}
