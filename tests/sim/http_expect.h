// Answers that requests deserve, from what RFC 9110 and docs/protocols.md say of them.
#ifndef SIM_HTTP_EXPECT_H
#define SIM_HTTP_EXPECT_H

#include "http_script.h"

// A request whose answer depends on nothing else.
struct http_fixed {
    const char *request; // its head, but for the lines that all have; all of it for `whole`
    bool echo;           // for the echo handler, or else for files
    bool body;           // it has one
    int status;
    const char *content; // after the status's own text and ": ", or NULL
    const char *allow, *location;
    bool closes;
};

// One of those for the kind of server.
const struct http_fixed *http_fixed_draw(bool echo, const struct client *client);
// The entity tag of a version, with its quotes.
void http_expect_tag(uint64_t modified_ns, size_t size, const char *ending, char ret_text[64]);
// An HTTP date with a final zero.
void http_expect_date(uint64_t second, char ret_text[HTTP_DATE + 1]);

#endif
