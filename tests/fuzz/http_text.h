// Parts of the target http_text: each takes a text and aborts when something does not hold.
#ifndef FUZZ_HTTP_TEXT_H
#define FUZZ_HTTP_TEXT_H

#include "http/request.h"

// The time of all comparisons, in 2026.
#define HTTP_TEXT_NOW 1784894400

// http_text_parts.c: dates, numbers, lists, weights, names of fields and types.
void try_date(struct http_text text);
void try_number(struct http_text text);
void try_list(struct http_text text);
void try_names(struct http_text text);

// What a list is in another reading: its next element, or false. And an element's weight.
bool model_next(struct http_text *list, struct http_text *ret_element);
unsigned model_weight(struct http_text *element);

// http_text_paths.c: paths, escapes, targets and hosts.
void try_path(struct http_text text);
void try_escapes(struct http_text text);
void try_target(struct http_text text);

// http_text_heads.c: what lines of a head ask for, together.
void try_codings(struct http_text text);
void try_accept(struct http_text text);
void try_condition(struct http_text text);

#endif
