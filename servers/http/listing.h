// Listings of directories, as HTML or JSON.
#ifndef HTTP_LISTING_H
#define HTTP_LISTING_H

#include "text.h"

enum { LISTING_ENTRIES_MAX = 20000 };

// Reads the directory (its descriptor and the root's stay the caller's; `path` is what it is called
// under the root, with its final slash) and makes the text, which the caller frees. Hidden names
// are left out; directories come first, then names in byte order. Beyond LISTING_ENTRIES_MAX names
// the listing says that it is cut. -errno. It may block.
int http_listing_make(int root, int directory, const char *path, bool json, char **ret_text,
                      size_t *ret_size);

// Percent-encodes what may not stand in a path, but slashes. At most three times the size.
size_t http_listing_escape_url(struct http_text text, char *ret_text);

// For HTML text and attributes; at most six times the size.
size_t http_listing_escape_html(struct http_text text, char *ret_text);

// For a JSON string; what is not UTF-8 becomes U+FFFD. At most six times the size.
size_t http_listing_escape_json(struct http_text text, char *ret_text);

#endif
