// The sandbox: what is left to a server that runs. A server states what it needs as data; from that
// come the ring's restrictions, the folders that Landlock leaves in reach, and one seccomp filter
// per kind of thread. docs/security.md says what each is for, and lists what remains.
#ifndef SANDBOX_H
#define SANDBOX_H

#include <linux/filter.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir.h>

enum sandbox_mode {
    SANDBOX_OFF,
    SANDBOX_ON,     // all that this machine offers; what it refuses fails with EPERM
    SANDBOX_STRICT, // all of it or no start; an unexpected system call ends the process
};

enum sandbox_access {
    SANDBOX_READ,    // read files and folders
    SANDBOX_CHANGE,  // and create, write, rename and remove them
    SANDBOX_REPLACE, // write, create and remove files only: a log's folder
    SANDBOX_REMOVE,  // remove files only: a unix socket's folder
};

// A file or a folder with all that is below it.
struct sandbox_path {
    const char *path; // NULL: what fd stands for
    int fd;
    enum sandbox_access access;
    bool close; // fd is the sandbox's to close
};

struct sandbox_call;

// What a server asks for beside its logs, statistics and listeners, which every server has.
struct sandbox_needs {
    uint32_t abilities;               // WEIR_ABILITY_ bits
    const struct sandbox_call *calls; // of its callbacks and jobs, beside the rows of all servers
    size_t calls_count;
    const struct sandbox_path *paths;
    size_t paths_count;
    uint16_t port_first, port_last; // what it binds while it runs; 0: whatever LISTEN allows
};

// Conditions of system calls beside the abilities.
enum { SANDBOX_WITH_UNIX = 1 << 16, SANDBOX_WITH_FILES = 1 << 17 };

enum { SANDBOX_PATHS_MAX = 96 };

// One for each kind of thread that a server has.
enum sandbox_filter {
    SANDBOX_FILTER_LOOP,
    SANDBOX_FILTER_JOB,
    SANDBOX_FILTER_MAIN,
    SANDBOX_FILTERS,
};

struct sandbox {
    enum sandbox_mode mode;
    const struct sandbox_needs *needs; // NULL: nothing can be enforced
    const char *user;                  // to whom privileges were dropped, or NULL
    enum weir_engine engine;           // the one that runs
    uint32_t conditions;               // SANDBOX_WITH_ bits
    bool fast_open;                    // the kernel lets clients connect by MSG_FASTOPEN
    bool answers_come;                 // and listeners could not be made incoming_only
    struct sandbox_path paths[SANDBOX_PATHS_MAX];
    size_t paths_count;

    // What holds.
    bool no_new_privileges;
    int landlock; // version of its interface, or 0
    bool seccomp; // the kernel takes filters, and no thread serves without
    struct sock_fprog filters[SANDBOX_FILTERS]; // kept as long as the process
    pthread_mutex_t lock;                       // of `fault`, once there are threads
    char fault[256];
};

// Starts empty. The lock lives as long as the process.
void sandbox_init(struct sandbox *sandbox, enum sandbox_mode mode,
                  const struct sandbox_needs *needs);

// Adds what stays in reach. -ENOSPC: there are too many.
int sandbox_add_path(struct sandbox *sandbox, const struct sandbox_path *path);

// For good: inherited descriptors are closed (those above the standard streams without FD_CLOEXEC),
// then no new privileges, and Landlock for this thread and those that it makes; and the filters are
// built, so that it belongs before any other thread. 0, or -errno with the reason in `fault`: in
// strict mode, for a path that is not there, or for want of memory.
int sandbox_enter(struct sandbox *sandbox);

// Gives the calling thread its filter: the `confine` of weir_loop_config, whose context is the
// sandbox. 0, or -errno with the reason in `fault`: then the thread must not serve. It allocates
// nothing.
int sandbox_confine(void *sandbox, enum weir_thread thread);

// The same for the thread that waits for signals and ends the server.
int sandbox_confine_main(struct sandbox *sandbox);

// One line of what holds and what is missing, and the same as a JSON object.
void sandbox_print(struct sandbox *sandbox, char *ret_text, size_t size);
void sandbox_print_json(struct sandbox *sandbox, char *ret_text, size_t size);

// Aborts in strict mode (sandbox_abort.c): carries out, for the whole process, what abort(3) begins
// in a thread that was prepared.
void sandbox_abort_init(void);
void sandbox_abort_prepare_thread(void);

// Filters (sandbox_filter.c): whether the kernel takes any; all of them from the tables, for the
// engine that runs, 0 or -errno; and one for the calling thread from what was built, 0 or -errno.
bool sandbox_filters_are_taken(void);
int sandbox_filters_build(struct sandbox *sandbox);
int sandbox_filter_install(struct sandbox *sandbox, enum sandbox_filter filter);

// Landlock (sandbox_landlock.c): the version of the kernel's interface, or 0.
int sandbox_landlock_version(void);
int sandbox_landlock_enter(struct sandbox *sandbox);

#endif
