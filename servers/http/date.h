// HTTP dates (RFC 9110, 5.6.7), without locale and without the process's time zone.
#ifndef HTTP_DATE_H
#define HTTP_DATE_H

#include <time.h>

#include "text.h"

enum { HTTP_DATE_SIZE = 29 }; // "Sun, 06 Nov 1994 08:49:37 GMT"

// Writes the preferred form, without a final zero. Years 0 to 9999.
void http_date_write(time_t time, char ret_text[HTTP_DATE_SIZE]);

// Reads any of the three forms. False for anything else; the date of the two-digit year is the one
// that is at most 50 years after `now`.
bool http_date_read(struct http_text text, time_t now, time_t *ret_time);

#endif
