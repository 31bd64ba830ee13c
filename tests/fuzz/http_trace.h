// What the parser says about an input, as one text: the same whatever pieces the input came in.
#ifndef HTTP_TRACE_H
#define HTTP_TRACE_H

#include <stddef.h>

// The largest piece that the input is cut into; SIZE_MAX: it is not cut.
struct http_trace_cut {
    size_t first; // of the first piece; 0: as the others
    size_t others;
};

// Parses the input, each piece from memory of its own that is freed when the parser has taken it.
// The caller frees the text.
char *http_trace(const char *data, size_t size, struct http_trace_cut cut);

#endif
