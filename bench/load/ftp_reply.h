// Replies of an FTP server, read as they come: the code and the text of the last line. No socket.
#ifndef LOAD_FTP_REPLY_H
#define LOAD_FTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FTP_REPLY_TEXT = 128, FTP_REPLY_MAX = 64 * 1024 };

// The reply that is coming on one connection. Zeroed at first.
struct ftp_reply {
    uint32_t code; // of the last whole one, or of the one that is coming; 0: not known yet
    uint32_t size; // of the line so far, as far as it was kept
    uint32_t total;
    bool several;              // lines: it ends with one that begins with the code and a blank
    bool ended;                // the next byte begins another reply
    char text[FTP_REPLY_TEXT]; // the line's beginning, zero-terminated at its end
};

enum ftp_reply_result {
    FTP_REPLY_MORE,
    FTP_REPLY_WHOLE,     // code and text stay until the next call
    FTP_REPLY_MALFORMED, // no FTP, or more than FTP_REPLY_MAX bytes
};

// Takes bytes of one reply; *ret_used of `size` were its.
enum ftp_reply_result ftp_reply_take(struct ftp_reply *reply, const char *data, size_t size,
                                     size_t *ret_used);

// The port in "229 ... (|||port|)" of RFC 2428; 0 when there is none.
uint16_t ftp_reply_port(const struct ftp_reply *reply);

#endif
