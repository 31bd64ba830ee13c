// What a file's name says about its content.
#ifndef HTTP_MIME_H
#define HTTP_MIME_H

#include "text.h"

// The media type by the name's last extension; application/octet-stream when it is unknown.
const char *http_mime_find(struct http_text name);

#endif
