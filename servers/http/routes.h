// The routes that come with the server.
#ifndef HTTP_ROUTES_H
#define HTTP_ROUTES_H

#include "handler.h"

struct http_site;

extern const struct http_route http_route_files;   // everything below --root
extern const struct http_route http_route_echo;    // sends the request's body back
extern const struct http_route http_route_stream;  // the same for any size, while it comes
extern const struct http_route http_route_headers; // sends the request's head back, a line each

// Counters as JSON, under the path.
struct http_route http_route_status(const char *path, struct http_site *site);

#endif
