// Listings of directories, as HTML or JSON.
#ifndef HTTP_LISTING_H
#define HTTP_LISTING_H

#include "text.h"

// Entries that one step looks at or writes, and the most text that it makes.
enum { LISTING_STEP = 256, LISTING_TEXT_MAX = 64 * 1024 };

struct http_listing;

// A listing of a directory of any size, which is made in steps of bounded work and in two MiB of
// memory at most. Takes the directory's descriptor, also when it fails; the root's must stay
// open. `path` is what the directory is called under the root, with its final slash. Hidden names
// and what is not served are left out; directories come first, then names in byte order, in groups
// of about twenty thousand. NULL: out of memory.
struct http_listing *http_listing_create(int root, int directory, const char *path, bool json);
void http_listing_destroy(struct http_listing *listing);

// The next step; it may block. -errno: the directory cannot be read, and nothing was told of it. A
// later error ends the listing, which says so itself.
int http_listing_step(struct http_listing *listing);
// What the last step has made, perhaps nothing; and whether that was all, and without an error.
struct http_text http_listing_text(const struct http_listing *listing);
bool http_listing_ended(const struct http_listing *listing);
bool http_listing_complete(const struct http_listing *listing);

// Percent-encodes what may not stand in a path, but slashes. At most three times the size.
size_t http_listing_escape_url(struct http_text text, char *ret_text);

// For HTML text and attributes; at most six times the size.
size_t http_listing_escape_html(struct http_text text, char *ret_text);

// For a JSON string; what is not UTF-8 becomes U+FFFD. At most six times the size.
size_t http_listing_escape_json(struct http_text text, char *ret_text);

#endif
