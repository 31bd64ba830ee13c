// What must hold for a head that is well-formed: target, host, framing, expectation.
#ifndef HTTP_CHECK_H
#define HTTP_CHECK_H

#include "request.h"

// Looks at a request whose target, headers, method and version are set, and sets path, query and
// expects_continue. Returns 0, or the status that refuses it and a few words.
int http_request_check(struct http_request *request, const char **ret_reason);

#endif
