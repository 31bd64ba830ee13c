// What an FTP client of a simulated run does: commands, each drawn when the one before it was
// answered, transfers over data connections of their own, and a model of the files that its own
// folder must have.
#ifndef SIM_FTP_SCRIPT_H
#define SIM_FTP_SCRIPT_H

#include "run.h"

enum {
    FTP_FILES = 4,
    FTP_FILE_MAX = 48 * 1024,
    FTP_LINE_SIZE = 1024,
    FTP_SHARED_SIZE = 180000,
    FTP_LISTING_MAX = 8192,
};

struct ftp_world {
    struct run *run;
    bool faulty, impatient;
    bool crowded; // the server has room for some of the sessions only
    bool uploads_direct, uploads_keep;
};

// A file as it must be.
struct ftp_model {
    bool there;
    size_t size;
    char data[FTP_FILE_MAX];
};

// What a transfer does with a file.
enum ftp_transfer_kind {
    FTP_SIM_RETRIEVE,
    FTP_SIM_SHARED, // of a large file that all read
    FTP_SIM_STORE,
    FTP_SIM_APPEND,
    FTP_SIM_NAMES,
    FTP_SIM_FACTS,
};

struct ftp_sim_transfer {
    struct client client; // of the data connection
    bool used;            // a client was started
    enum ftp_transfer_kind kind;
    bool ascii, aborts;
    bool abort_said;
    uint64_t offset;
    size_t file;
    uint64_t key; // of what is uploaded
    size_t size;  // of it
    bool altered; // a byte of a download is wrong
    int reply;    // the last of the transfer; 0: not yet
    char listing[FTP_LISTING_MAX];
    char wire[2 * FTP_FILE_MAX]; // what a download must bring, or an upload sends
    size_t wire_size;
};

struct ftp_script;

struct ftp_sim_operation {
    const char *name;
    // Goes on: with 0 at first, then with the code of each reply.
    void (*next)(struct ftp_script *script, int code);
};

struct ftp_script {
    struct ftp_world *world;
    struct client *control;
    const char *folder; // of the user, in the simulated tree
    char command[FTP_LINE_SIZE];
    size_t command_size;
    uint64_t command_at; // bytes sent before it
    char line[FTP_LINE_SIZE];
    size_t line_size;
    int code; // of a reply of several lines
    const struct ftp_sim_operation *operation;
    int stage;
    uint32_t left; // operations
    bool entered;  // it is in its own folder
    bool closing;  // the server says goodbye
    size_t file, other;
    uint32_t uploads;
    struct ftp_model files[FTP_FILES], before;
    struct ftp_sim_transfer transfer;
};

// ftp_script.c
void ftp_script_start(struct ftp_script *script);
// Whether a file is what the client was told, or may take it to be after a command that was not
// answered.
bool ftp_script_file_holds(const struct ftp_script *script, size_t file);
// A whole reply came.
void ftp_script_reply(struct ftp_script *script, int code);
void ftp_say(struct ftp_script *script, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// Whether the reply is one of these (ended by 0). Otherwise it must be one that the run's troubles
// allow, or it is complained about; then the operation is over.
bool ftp_expects(struct ftp_script *script, int code, const int *codes);
// The operation is over.
void ftp_operation_over(struct ftp_script *script);

// ftp_transfers.c
extern const struct ftp_sim_operation ftp_transfer_operation;
extern const struct client_role ftp_data_role;

// ftp_model.c: the client's own files.
void ftp_path(const struct ftp_script *script, size_t file, char ret_path[64]);
// Whether a file is as a model says.
bool ftp_model_holds(const struct ftp_script *script, size_t file, const struct ftp_model *model);
// The model becomes what is there.
void ftp_model_adopt(struct ftp_script *script, size_t file);
// What an upload of `sent` bytes makes of the file.
void ftp_model_upload(const struct ftp_script *script, struct ftp_model *model, uint64_t sent);
// Whether the file may be what a broken upload left: a prefix of what was sent, where it writes in
// place, or all of it if the end was told.
bool ftp_model_broken_holds(const struct ftp_script *script, uint64_t sent);

#endif
