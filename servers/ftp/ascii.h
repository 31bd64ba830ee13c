// TYPE A: lines end with CR LF on the wire and with LF in files. A stateful conversion: the pieces
// may be cut anywhere.
#ifndef FTP_ASCII_H
#define FTP_ASCII_H

#include <stdbool.h>
#include <stddef.h>

// Zeroed at first; one for each direction of each transfer.
struct ftp_ascii {
    bool carriage_return; // the byte before was a CR
};

// A file's bytes for the wire. A line feed that already stands behind a CR gets no second one.
// ret_data has room for 2 * size bytes; returns how many were written.
size_t ftp_ascii_encode(struct ftp_ascii *ascii, const char *data, size_t size, char *ret_data);

// The wire's bytes for a file: CR LF becomes LF, any other CR stays. ret_data has room for size + 1
// bytes; returns how many were written. A CR at the end waits for what follows.
size_t ftp_ascii_decode(struct ftp_ascii *ascii, const char *data, size_t size, char *ret_data);

// The end of what is decoded: writes the CR that still waits, if one does.
size_t ftp_ascii_decode_end(struct ftp_ascii *ascii, char *ret_data);

#endif
