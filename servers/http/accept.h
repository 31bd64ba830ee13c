// Which form of a listing a client wants (RFC 9110, 12.5.1).
#ifndef HTTP_ACCEPT_H
#define HTTP_ACCEPT_H

#include "request.h"

// Whether JSON rather than HTML: the most precise range counts for each, then its weight. Of what
// is wanted equally, the one that is named, or named first; otherwise HTML.
bool http_accept_prefers_json(const struct http_request *request);

#endif
