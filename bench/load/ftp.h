// FTP sessions of the load: the dialog on the control connection, and one data connection at a
// time. A client.c connection is the control connection; `open` means logged in.
//
// Every command's latency is recorded by itself, beside that of the whole operation. A download
// must have the length and content of the first one of the same file; an upload is the payload's
// pattern, and where it is verified the same session downloads it again and compares, outside of
// the operation's time.
#ifndef LOAD_FTP_H
#define LOAD_FTP_H

#include <weir.h>

#include "ftp_reply.h"

struct connection;
struct worker;

enum ftp_operation { FTP_LOGIN, FTP_NOOP, FTP_RETR, FTP_STOR };

// What is waited for; ftp_step_name() has the words that reports use.
enum ftp_step {
    FTP_STEP_GREETING, // from the start of connecting
    FTP_STEP_USER,
    FTP_STEP_PASS,
    FTP_STEP_TYPE,
    FTP_STEP_EPSV,
    FTP_STEP_BEGIN, // RETR's or STOR's first reply; the data connection is being opened meanwhile
    FTP_STEP_DATA,  // from there to the last byte and the last reply
    FTP_STEP_NOOP,
    FTP_STEP_QUIT,
    FTP_STEPS, // their number; also: nothing
};

// The content of a file, the same however it is cut.
struct ftp_hash {
    uint64_t hash, word;
    uint32_t count; // bytes in `word`
};

// What the first download of a file was, of one worker.
struct ftp_file {
    uint64_t length;
    uint64_t hash;
    bool known;  // the length
    bool hashed; // and the content
};

struct ftp_session {
    struct connection *connection;
    struct weir_stream *data; // NULL: none, or it is over
    struct ftp_reply reply;
    uint64_t sent_ns;  // the last command
    uint64_t done_ns;  // of an operation that is being verified
    uint64_t moved;    // bytes of this transfer
    uint64_t transfer; // counts them, for the file's number
    struct ftp_hash hash;
    uint32_t offset; // in the payload's pattern: of the next byte
    uint32_t begin;  // and of the first one
    uint32_t number; // of the file
    uint8_t step;    // enum ftp_step
    bool beside : 1; // downloads all the time and is not counted
    bool compares : 1;
    bool checking : 1; // takes back what it stored
    bool told : 1;     // the server is ready for the data
    bool opened : 1;   // the data connection
    bool ended : 1;    // and its end
    bool whole : 1;    // the last reply came
};

const char *ftp_step_name(enum ftp_step step);

// Sessions for `count` connections of a worker, and what they share. -ENOMEM.
int ftp_init(struct worker *worker, uint32_t count);
void ftp_fini(struct worker *worker);

// The control connection is being opened, or it is given up: the data connection goes with it.
void ftp_connect(struct ftp_session *session);
void ftp_drop(struct ftp_session *session);
// Bytes came on it.
void ftp_received(struct ftp_session *session, struct weir_slice slice);
// Starts an operation; ends the session in order.
void ftp_start(struct ftp_session *session);
void ftp_quit(struct ftp_session *session);

#endif
