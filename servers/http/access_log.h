// The access log: a line for each request, formatted into a buffer of the worker and written by a
// helper thread, so that no disk holds up the loop.
#ifndef HTTP_ACCESS_LOG_H
#define HTTP_ACCESS_LOG_H

#include "site.h"

// NULL when memory is out.
struct http_access_log *http_access_log_create(struct http_worker *worker);
// Writes what is left; nothing of it is in flight.
void http_access_log_destroy(struct http_access_log *log);

// One line. The request may be NULL: it was not understood.
void http_access_log_add(struct http_access_log *log, struct weir_stream *stream,
                         const struct http_request *request, int status, uint64_t size);

// The worker leaves its loop: what is buffered is written now.
void http_access_log_leave(struct http_access_log *log);

#endif
