// One transfer: a data connection and a file or a listing. It lives from the command that asks for
// it to its last reply, or beyond the session when the control connection breaks off: then its
// upload is still cleared away.
//
// OPENING (a job or the ring opens the file) -> WAITING (for the data connection) -> RUNNING. Then
// an upload's file is renamed or removed. At most one operation is in flight beside the data
// stream's own. Whatever fails first is kept in `error` and decides about the reply.
#ifndef FTP_TRANSFER_H
#define FTP_TRANSFER_H

#include <stdalign.h>
#include <sys/stat.h>

#include "ascii.h"
#include "session.h"

enum ftp_phase { FTP_OPENING, FTP_WAITING, FTP_RUNNING };

// The session of a data connection's stream.
struct ftp_data {
    struct ftp_session *session;   // that opened it; NULL when that is gone
    struct ftp_transfer *transfer; // that uses it, or NULL
};

struct ftp_listing;
struct ftp_pile;

// Where an upload goes. Its jobs write here while the loop's thread goes on with the transfer (an
// abort, the session's end), so the loop looks only between jobs. The alignment keeps compilers
// from reading a neighbour along with a flag of the loop's.
struct ftp_place {
    alignas(16) int parent_fd;
    int file_fd;        // while it is opened
    mode_t mode;        // of the file that will be replaced, or 0
    bool keeps;         // asked for by the loop: the upload is whole
    bool ended;         // told by the job: the file has its name, or was removed
    char temporary[40]; // the name until then, or ""
};

struct ftp_transfer {
    struct ftp_session *session; // NULL: orphaned
    struct ftp_server *server;
    struct weir_loop *loop;
    struct weir_stream *data; // in use by this transfer
    struct weir_operation operation;
    struct weir_timer timer; // for the data connection, later for the rate
    struct weir_timer watch; // for the least rate
    struct weir_file *file;
    struct ftp_listing *listing;
    struct ftp_pile *pile; // of an upload that is written as it comes
    char *buffer;          // of one that is converted or slowed down, and of ASCII downloads
    struct ftp_ascii converter;
    uint64_t offset;   // where the file's next bytes are
    uint64_t size;     // of a download's file
    uint64_t moved;    // bytes on the wire
    uint64_t progress; // bytes that the client had sent or taken when the watch last looked
    uint64_t begin_ns; // of RUNNING
    uint64_t start_ns; // of the command
    uint32_t held;     // bytes in the buffer that are being written
    uint8_t tries;     // of a download's open
    int32_t error;     // the first
    enum ftp_kind kind;
    enum ftp_phase phase;
    enum ftp_verb verb;
    int root_fd; // its own: the session may end first
    bool ascii;
    bool busy;      // `operation` is in flight
    bool ended;     // an upload's client has sent all
    bool complete;  // everything was queued, or came
    bool aborted;   // by ABOR
    bool told;      // 150 was said
    bool paused;    // an upload's data connection, for the disk or the rate limit
    bool waited;    // for the client, when the watch last looked
    bool finishing; // the upload's last job runs, or has run
    struct ftp_place place;
    char host[INET6_ADDRSTRLEN]; // for the log
    char *user;
    const char *name; // the last part of `path`
    char path[];
};

// transfer.c
struct ftp_transfer *ftp_transfer_create(struct ftp_session *session, enum ftp_kind kind,
                                         enum ftp_verb verb, const char *path);
// Whether there is, or can be, a data connection; replies if not.
bool ftp_transfer_has_data(struct ftp_session *session);
// The file or directory is open: says 150 and runs as soon as the data connection stands.
void ftp_transfer_opened(struct ftp_transfer *transfer);
// The transfer cannot go on; the first error counts.
void ftp_transfer_fail(struct ftp_transfer *transfer, int error);
// Ends the transfer if nothing of it is in flight any more.
void ftp_transfer_settle(struct ftp_transfer *transfer);
// The client is to move bytes from now on: watches for one that is too slow.
void ftp_transfer_watch(struct ftp_transfer *transfer);
// All was queued: closes the data connection behind it.
void ftp_transfer_complete(struct ftp_transfer *transfer);
// Prepares transfer->operation and marks it busy. It belongs to no stream: the transfer waits for
// it itself, whatever ends first.
void ftp_transfer_own(struct ftp_transfer *transfer,
                      void (*done)(struct weir_operation *operation, int64_t result));
// The transfer of an operation that is done, which is no longer busy.
struct ftp_transfer *ftp_transfer_of(struct weir_operation *operation);
// Room in the queue that a source waited for.
void ftp_transfer_room(struct ftp_transfer *transfer);
// ABOR. False: too late, the command waits for the end.
bool ftp_transfer_abort(struct ftp_transfer *transfer);
// The control connection is gone.
void ftp_transfer_orphan(struct ftp_transfer *transfer);
// The stream that what is sent goes to: the data connection, or control for STAT.
struct weir_stream *ftp_transfer_out(struct ftp_transfer *transfer);
// Bytes that the rate limit lets go now; 0: transfer->timer will tell.
uint64_t ftp_transfer_allowance(struct ftp_transfer *transfer, uint64_t wanted);

// data.c
extern const struct weir_protocol ftp_data_protocol;
// A data connection for the transfer: takes the one that stands, or connects; passive ones come.
void ftp_data_attach(struct ftp_transfer *transfer);

// download.c
void ftp_download_run(struct ftp_transfer *transfer);
// upload.c
void ftp_upload_run(struct ftp_transfer *transfer);
void ftp_upload_received(struct ftp_transfer *transfer, struct weir_slice slice);
void ftp_upload_ended(struct ftp_transfer *transfer); // the client's end
void ftp_upload_finish(struct ftp_transfer *transfer);
void ftp_upload_resume(struct ftp_transfer *transfer);
// The data connection closes: gives back what was received and not written.
void ftp_upload_drop(struct ftp_transfer *transfer);
// listing.c
void ftp_listing_run(struct ftp_transfer *transfer);
void ftp_listing_free(struct ftp_listing *listing);

// transfer_log.c
// Opens the transfer log, if there is to be one, and makes what its lines and the events' wait in:
// -errno. Behind the last loop's end, ftp_log_close() writes what is left.
int ftp_log_open(struct ftp_server *server);
void ftp_log_close(struct ftp_server *server);
void ftp_log_transfer(const struct ftp_transfer *transfer, int code);

#endif
