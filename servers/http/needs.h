// What the HTTP server asks of its sandbox.
#ifndef HTTP_NEEDS_H
#define HTTP_NEEDS_H

#include "../sandbox_calls.h"

struct http_settings;

struct http_needs {
    struct sandbox_needs needs;
    struct sandbox_path root;
};

// States what a server with these settings needs: the root, which is open, to read from, or only
// connections. The paths stay in `ret_needs`, which must not move.
void http_needs_complete(struct http_needs *ret_needs, const struct http_settings *settings,
                         int root);

#endif
