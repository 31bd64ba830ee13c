// A simulated kernel in one process: a ring, sockets, files and a clock, for the uring engine as it
// is. The same seed gives the same run, byte for byte. For tests only; weir does not ship it.
//
// A sim has one ring, made by loop_create_on() with sim_base(). All runs on one thread: time passes
// only in the loop's own calls (each costs a little, and a wait jumps to the next event), and what
// sim_at() was told to run runs inside of them. Sockets of the other side ("peers") are moved by
// direct calls, between turns or from sim_at().
#ifndef WEIR_SIM_H
#define WEIR_SIM_H

#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "../../loop.h"

struct sim;
struct sim_socket;

// What may go wrong, each with its chance per thousand occasions.
enum sim_fault {
    SIM_SHORT_RECEIVE,      // a receive takes less than there is
    SIM_SHORT_SEND,         // a send takes less than there is room for
    SIM_SEND_REFUSED,       // a send that may not wait takes nothing
    SIM_LATE,               // an operation is noticed later than it could be
    SIM_REORDER,            // of what can complete, any comes first
    SIM_MULTISHOT_END,      // a multishot ends with data before its credit is used up
    SIM_MULTISHOT_END_BARE, // and without data
    SIM_NO_BUFFERS,         // ENOBUFS although there are some
    SIM_BUFFER_WITH_END,    // the end of a stream takes a buffer too, as kernels before 6.10 do
    SIM_CANCEL_LOST,        // what is cancelled completes first
    SIM_ACCEPT_ERROR,
    SIM_FILE_ERROR,    // of any call on files, with each errno
    SIM_FILE_SHORT,    // part of a read or write
    SIM_FILE_COLD,     // a name or a page is not in memory, so who must not wait is refused
    SIM_FILE_RACE,     // a rename elsewhere: the open must be tried again
    SIM_INTERRUPT,     // EINTR instead of a wait
    SIM_PART_OF_BATCH, // not all entries are taken
    SIM_BUSY,          // no entry is taken until completions were reaped
    SIM_CLOCK_JUMP,    // forward
    SIM_RESET_LOSS,    // a reset overtakes bytes that were sent before it
    SIM_JOB_REFUSED,   // no room for a job, unless it is owed
    SIM_FAULTS,
};

struct sim_faults {
    uint16_t chances[SIM_FAULTS];
    uint32_t sq_entries, cq_entries; // of the queues; 0: as asked for
    uint32_t receive_max;            // bytes that a receive brings at most; 0: as many as fit
    uint64_t late_max_ns;            // for SIM_LATE
    uint64_t clock_jump_max_ns;
};

// What a run may leave behind, and what it must not have done.
struct sim_counts {
    uint32_t descriptors;        // open ones of the process, without the wake descriptor
    uint32_t ring_descriptors;   // open ones of the ring's table
    uint32_t entries;            // prepared for the submission queue, not taken yet
    uint32_t operations;         // in flight, without the read of the wake descriptor
    uint32_t buffers;            // that the kernel has to receive into
    uint32_t bad_closes;         // of descriptors that were not open
    uint32_t bad_descriptors;    // operations on descriptors that were not open
    uint32_t overflows;          // completions that found no room
    uint32_t no_descriptors;     // calls and operations that were refused for want of one
    uint32_t sockets;            // that exist, also those of peers
    uint32_t bundles;            // completions of several buffers
    uint32_t bundles_of_cut;     // of them, those whose first buffer had been cut before
    uint32_t busy;               // most enters in a row that took no entry
    uint32_t answered;           // how often sim_answer() had its way
    bool broken;                 // the ring has answered as sim_break_after() told it
    bool stuck;                  // a wait that nothing could have ended
    uint64_t faults[SIM_FAULTS]; // how often each struck
};

// --- The kernel ----------------------------------------------------------------------------------

// `faults` may be NULL for none. The simulated kernel itself never lacks memory: it aborts then.
struct sim *sim_create(uint64_t seed, const struct sim_faults *faults);
// Other faults from now on; NULL: none.
void sim_set_faults(struct sim *sim, const struct sim_faults *faults);
// The loop must be gone. NULL is allowed.
void sim_destroy(struct sim *sim);
// What a loop stands on. It lives as long as the sim.
const struct loop_base *sim_base(struct sim *sim);

uint64_t sim_now(const struct sim *sim);
// Runs function(argument) after the delay, from within one of the loop's calls. It must not call
// the loop.
void sim_at(struct sim *sim, uint64_t delay_ns, void (*function)(void *argument), void *argument);
// The next draws are taken from these bytes, which must stay; those after them from the seed again.
void sim_decide(struct sim *sim, const void *data, size_t size);
// Below `below`, from the seed.
uint64_t sim_random(struct sim *sim, uint64_t below);
// What sim_at() was told with this argument does not run any more.
void sim_forget(struct sim *sim, const void *argument);
void sim_count(const struct sim *sim, struct sim_counts *ret_counts);
// Everything that happens is written there, a line each; NULL: nowhere.
void sim_trace_to(struct sim *sim, FILE *file);
// Over all that would have been written.
uint64_t sim_trace_hash(const struct sim *sim);
// Adds a line of the test's own.
void sim_trace(struct sim *sim, const char *what, uint64_t a, int64_t b);
// Descriptors that the process may have; -EMFILE beyond.
void sim_limit_descriptors(struct sim *sim, uint32_t count);

// An answer that the kernel gives once, to the attempt number `number` of an operation.
struct sim_answer {
    uint8_t opcode; // IORING_OP_...
    bool acts;      // what was asked for is done all the same
    int result;
    uint32_t flags;  // IORING_CQE_F_...: with MORE it goes on afterwards, with BUFFER it takes one
    uint32_t number; // counted from 1 on
};
void sim_answer(struct sim *sim, const struct sim_answer *answer);
// A completion that nothing in flight asked for, as a late one of what is gone. `with_buffer`: it
// takes one, if there is any. Only while there is a loop.
void sim_post(struct sim *sim, uint64_t user_data, int result, bool with_buffer);
// After so many enters the ring is broken: each answers -EIO from then on.
void sim_break_after(struct sim *sim, uint64_t enters);

// Faults that change nothing of what a client sees: drawn from the seed, a mix of its own each.
void sim_faults_harmless(uint64_t seed, struct sim_faults *ret_faults);
// All faults: connections may be lost.
void sim_faults_any(uint64_t seed, struct sim_faults *ret_faults);
const char *sim_fault_name(enum sim_fault fault);

// --- Files ---------------------------------------------------------------------------------------

// Paths begin at the root of the simulated tree; directories on the way are made.
void sim_file_create(struct sim *sim, const char *path, const void *data, size_t size);
void sim_directory_create(struct sim *sim, const char *path);
// As a rename over it does: what is open of the old one stays as it is.
void sim_file_replace(struct sim *sim, const char *path, const void *data, size_t size);
// Since 1970; for files that are there.
void sim_file_set_time(struct sim *sim, const char *path, uint64_t modified_ns);
// A descriptor of a file or directory that is there, or -errno.
int sim_file_open(struct sim *sim, const char *path);
// What is in it now; false: there is no such file.
bool sim_file_content(struct sim *sim, const char *path, const char **ret_data, size_t *ret_size);
// The name of the next entry of a directory, `*at` counting from 0; NULL: that was all.
const char *sim_file_next(struct sim *sim, const char *path, uint32_t *at);

// --- System calls on files -----------------------------------------------------------------------
// For whoever puts them in the place of the real ones. They return what the kernel returns, so
// -errno. A name is one in the directory fd; NULL or "": fd itself.

// Whether a descriptor is a simulated one, open or not.
bool sim_owns(int fd);
// CLOCK_REALTIME, in nanoseconds.
uint64_t sim_real_time(const struct sim *sim);
// getrandom(2): from the seed too, but not from sim_decide()'s bytes.
void sim_call_random(struct sim *sim, void *ret_data, size_t size);
int sim_call_open(struct sim *sim, int fd, const char *path, uint64_t flags, uint64_t mode,
                  uint64_t resolve);
int sim_call_duplicate(struct sim *sim, int fd);
int sim_call_close(struct sim *sim, int fd);
int sim_call_stat(struct sim *sim, int fd, const char *name, struct stat *ret_status);
int sim_call_access(struct sim *sim, int fd, const char *name);
// The entry number *at of a directory, which becomes the next; NULL after the last.
int sim_call_entry(struct sim *sim, int fd, uint32_t *at, const char **ret_name);
int sim_call_unlink(struct sim *sim, int fd, const char *name, bool directory);
int sim_call_mkdir(struct sim *sim, int fd, const char *name, uint32_t mode);
int sim_call_rename(struct sim *sim, int from_fd, const char *from_name, int to_fd,
                    const char *to_name, bool replace);
int sim_call_set_time(struct sim *sim, int fd, uint64_t modified_ns);
int sim_call_set_mode(struct sim *sim, int fd, uint32_t mode);
int sim_call_truncate(struct sim *sim, int fd, uint64_t size);
int sim_call_sync(struct sim *sim, int fd);
int64_t sim_call_read(struct sim *sim, int fd, const struct iovec *iovec, uint64_t offset,
                      bool no_wait);
int64_t sim_call_write(struct sim *sim, int fd, const struct iovec *iovecs, int count,
                       uint64_t offset);

// --- Peers ---------------------------------------------------------------------------------------

// Starts to connect. 0 or -errno; then sim_peer_connected() tells. Sizes as for SO_SNDBUF and
// SO_RCVBUF, 0: the default. `local` may be NULL.
int sim_peer_connect(struct sim *sim, const struct weir_address *address,
                     const struct weir_address *local, int send_buffer, int receive_buffer,
                     struct sim_socket **ret_peer);
// -EINPROGRESS, 0, or why it failed.
int sim_peer_connected(struct sim_socket *peer);
// A count; -EAGAIN when it would wait; -errno. A read of 0 is the end.
int64_t sim_peer_write(struct sim_socket *peer, const void *data, size_t size);
int64_t sim_peer_read(struct sim_socket *peer, void *data, size_t size);
void sim_peer_half_close(struct sim_socket *peer);
// `reset`: the connection is gone at once. The peer is freed.
void sim_peer_close(struct sim_socket *peer, bool reset);
// The host vanished: the other side's kernel gives up with ETIMEDOUT. The peer is freed.
void sim_peer_vanish(struct sim_socket *peer);
// backlog < 0: bound, but not listening.
int sim_peer_listen(struct sim *sim, const struct weir_address *address, int backlog,
                    struct sim_socket **ret_peer, struct weir_address *ret_address);
// 0, or -EAGAIN.
int sim_peer_accept(struct sim_socket *listener, struct sim_socket **ret_peer);

#endif
