// The files handler's answer to a directory.
#ifndef HTTP_FILES_LISTING_H
#define HTTP_FILES_LISTING_H

#include "handler.h"
#include "lookup.h"

// Answers with a listing of the directory that the lookup found, and takes its descriptor.
void http_files_list(struct http_exchange *exchange, struct http_lookup *lookup);

// The route's callbacks, as in handler.h: nothing else of it keeps a state.
void http_files_writable(struct http_exchange *exchange, void *context);
void http_files_gone(struct http_exchange *exchange, void *context);

#endif
