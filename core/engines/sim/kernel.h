// Private to engines/sim: the simulated kernel's records, and what its files offer each other.
//
// Where this kernel follows the real one from memory of its source, a comment names the function;
// such places are a reading of it, not a proof. tests/contract holds both to the same assertions.
#ifndef WEIR_SIM_KERNEL_H
#define WEIR_SIM_KERNEL_H

#include "../uring/ring.h"
#include "../uring/uapi.h"
#include "sim.h"

// --- Lists ---------------------------------------------------------------------------------------

// A ring of links; a head that points to itself is empty.
struct sim_link {
    struct sim_link *next, *previous;
};

static inline void sim_list_init(struct sim_link *head)
{
    head->next = head->previous = head;
}

static inline bool sim_list_empty(const struct sim_link *head)
{
    return head->next == head;
}

static inline void sim_list_append(struct sim_link *head, struct sim_link *link)
{
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

static inline void sim_list_remove(struct sim_link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    sim_list_init(link);
}

// --- Objects -------------------------------------------------------------------------------------

// SIM_MACHINE is a regular file of the machine itself, which a test opened.
enum sim_kind { SIM_SOCKET, SIM_FILE, SIM_COUNTER, SIM_MACHINE };

// What a descriptor stands for. An operation in flight counts as well as a descriptor does, so a
// socket is released only after both are gone (as struct file is).
struct sim_object {
    struct sim *sim;
    enum sim_kind kind;
    uint32_t references;
    struct sim_link operations; // in flight on it
};

// An endless queue of bytes.
struct sim_bytes {
    char *data;
    size_t capacity, start, size;
};

enum sim_socket_state {
    SIM_SOCKET_NEW,
    SIM_SOCKET_BOUND, // to an address, but not listening
    SIM_SOCKET_LISTENING,
    SIM_SOCKET_CONNECTING,
    SIM_SOCKET_CONNECTED,
    SIM_SOCKET_DEAD, // after a reset
};

struct sim_socket {
    struct sim_object object;
    enum sim_socket_state state;
    struct weir_address local, remote;
    struct sim_link bound; // in sim->bound
    size_t send_buffer, receive_buffer;
    // Of a connection.
    struct sim_socket *peer; // NULL: it is released
    struct sim_bytes in;     // arrived, not read
    size_t in_max;
    bool in_ended;           // the other side's end is behind `in`
    bool out_ended;          // our end was sent
    bool non_blocking;       // O_NONBLOCK, for calls beside the ring
    int error;               // sk_err: told once
    uint64_t number;         // for the trace
    struct sim_link waiting; // in the listener's backlog, or among those that wait to connect
    // Of a listener.
    struct sim_link backlog; // connections to accept
    struct sim_link callers; // connections that wait for room in the backlog
    uint32_t backlog_count, backlog_max;
};

struct sim_node { // a file or a directory
    struct sim_link link;
    struct sim *sim;
    struct sim_node *parent; // NULL: the root, or its name is gone
    char *name, *data;       // "" is the root's
    size_t size, capacity;
    uint64_t number, modified_ns, changed_ns;
    uint32_t mode; // with its kind, as stat(2) tells it
};

struct sim_file { // an open one
    struct sim_object object;
    struct sim_node *node;
    uint64_t flags;
};

// A walk from a directory on.
struct sim_path {
    struct sim_node *start;
    const char *text;
    bool beneath; // never above `start`
    // Where it led.
    struct sim_node *parent, *node; // node: NULL if the last name is free
    const char *name;               // the last
    size_t name_size;
    bool slash; // behind it
};

struct sim_machine_file {
    struct sim_object object;
    int fd; // the test's
};

struct sim_counter { // an eventfd
    struct sim_object object;
    uint64_t value;
};

// --- Operations ----------------------------------------------------------------------------------

enum sim_operation_state {
    SIM_RUNNING,
    SIM_WAITING,  // for its object to become ready
    SIM_LATE_DUE, // an event will make it ready
    SIM_READY,    // task work: runs in the next enter that asks for events
    SIM_WORKER,   // a worker thread has it: an event will make it ready
};

enum { SIM_AGAIN = INT_MIN, SIM_REQUEUE = INT_MIN + 1, SIM_MULTISHOT_LOOPS = 32 };

struct sim_operation {
    struct sim_link all, of_object, queue;
    struct sim *sim;
    struct sim_object *object; // counted; NULL: it needs none
    const struct sim_opcode *opcode;
    uint64_t user_data;
    enum sim_operation_state state;
    bool skip_success, canceled, multishot, poll_first, direct, non_blocking, bundle;
    bool has_received; // so it knows how many bytes there are
    bool no_wait;      // REQ_F_NOWAIT: one attempt, at submission
    bool failed;       // although its result may be a count
    uint32_t completion_flags;
    int fd;
    uint32_t each, total; // caps of a multishot; total_capped tells whether there is one
    bool total_capped, select_buffer;
    int message_flags;
    unsigned cancel_flags;
    uint64_t target; // of a cancel
    struct iovec *iovecs, one;
    uint32_t iovecs_count;
    size_t done, size;
    uint64_t offset;
    struct weir_address address; // to connect to
    bool connecting;
    struct sockaddr *ret_address;
    socklen_t *ret_address_size;
    char *path;
    uint64_t open_flags, open_mode, open_resolve;
};

struct sim_opcode {
    const char *name;
    // Copies what the kernel copies at submission. 0, or -errno as the result.
    int (*prepare)(struct sim *sim, struct sim_operation *operation,
                   const struct io_uring_sqe *sqe);
    // One attempt: a result, SIM_AGAIN to wait for the object, SIM_REQUEUE to go on later.
    int (*run)(struct sim *sim, struct sim_operation *operation);
    // Whether the object has what the operation waits for.
    bool (*ready)(struct sim *sim, const struct sim_operation *operation);
    // Whether a worker has to wait for a disk first; NULL: never.
    bool (*waits)(struct sim *sim, const struct sim_operation *operation);
    bool needs_object;
    bool worker;  // always runs in a worker thread
    bool at_once; // never late
};

// --- The ring ------------------------------------------------------------------------------------

struct sim_ring {
    struct io_uring *ring;
    bool enabled, deferred;
    unsigned words[12]; // the shared heads, tails and flags
    struct sim_object **files;
    uint32_t files_count, files_hint;
    struct io_uring_buf_ring *buffers;
    uint32_t buffers_count;
    uint16_t buffers_head;
    struct sim_link operations; // all in flight
    struct sim_link ready;      // task work
    uint32_t operations_count;
    struct io_uring_cqe *overflow;
    uint32_t overflow_count, overflow_room;
};

struct sim_event {
    uint64_t due_ns, sequence;
    void (*function)(void *argument);
    void *argument;
};

struct sim {
    uint64_t random, now_ns;
    struct sim_faults faults;
    struct loop_base base;
    struct ring_base ring_base;
    struct sim_ring *ring;
    struct sim_object **descriptors;
    uint32_t descriptors_room, descriptors_max;
    int wake_fd;
    uint64_t enters, enters_max;
    uint32_t busy;                  // enters in a row that took no entry
    const unsigned char *decisions; // of sim_decide()
    size_t decisions_left;
    struct sim_answer answer;
    struct sim_event *events; // a heap
    size_t events_count, events_room;
    uint64_t events_sequence;
    bool events_running;
    struct sim_link bound; // sockets with an address of their own
    struct sim_link nodes; // files and directories
    uint64_t nodes_made, secrets;
    bool renaming; // the last open was asked to try again
    uint64_t sockets_made;
    uint16_t port_next;
    struct sim_counts counts;
    FILE *trace;
    uint64_t trace_hash;
};

// world.c
void *sim_allocate(size_t count, size_t size); // zeroed
void *sim_resize(void *memory, size_t count, size_t size);
char *sim_copy_text(const char *text);
bool sim_strikes(struct sim *sim, enum sim_fault fault);
// Between one and `most`; fewer than `most` if the fault strikes.
size_t sim_shortened(struct sim *sim, enum sim_fault fault, size_t most);
void sim_spend(struct sim *sim, uint64_t duration_ns);
// Lets time pass until something happens, at most until the deadline; false: nothing ever will.
bool sim_pass(struct sim *sim, uint64_t deadline_ns);
// All that sim_at() was told to run this function for is due now, in its order.
void sim_run_now(struct sim *sim, void (*function)(void *argument));
int sim_descriptor_open(struct sim *sim, struct sim_object *object); // takes the count
struct sim_object *sim_descriptor(const struct sim *sim, int fd);
int sim_descriptor_close(struct sim *sim, int fd);
bool sim_descriptors_full(struct sim *sim); // whoever asks is refused then
void sim_object_init(struct sim *sim, struct sim_object *object, enum sim_kind kind);
void sim_object_release(struct sim_object *object);

// socket.c
struct sim_socket *sim_socket_create(struct sim *sim);
void sim_socket_released(struct sim_socket *socket); // the last count is gone
int64_t sim_socket_read(struct sim_socket *socket, void *data, size_t size);
int64_t sim_socket_write(struct sim_socket *socket, const void *data, size_t size);
int sim_socket_shutdown(struct sim_socket *socket);
void sim_socket_die(struct sim_socket *socket, int error); // a reset or time-out arrived
int sim_socket_disconnect(struct sim_socket *socket);      // connect to AF_UNSPEC
bool sim_socket_readable(const struct sim_socket *socket);
bool sim_socket_writable(const struct sim_socket *socket);
size_t sim_socket_room(const struct sim_socket *socket);

// connection.c
int sim_socket_bind(struct sim_socket *socket, const struct weir_address *address);
int sim_socket_listen(struct sim_socket *socket, int backlog);
int sim_socket_connect(struct sim_socket *socket, const struct weir_address *address);
struct sim_socket *sim_socket_accept(struct sim_socket *listener); // NULL: there is none
void sim_socket_unlisten(struct sim_socket *socket);
struct sim_socket *sim_socket_bound(const struct sim *sim, const struct weir_address *address);

// ring.c
extern const struct ring_operations sim_ring_operations;
void sim_operation_ready(struct sim_operation *operation);
void sim_object_wake(struct sim_object *object); // it may be ready for something now
void sim_operation_complete(struct sim_operation *operation, int result);
// A completion of an operation that goes on; false: there is no room, and it must end.
bool sim_operation_post(struct sim_operation *operation, int result, uint32_t flags);
void sim_operation_free(struct sim_operation *operation);

// submit.c
void sim_submit(struct sim *sim, const struct io_uring_sqe *sqe);
void sim_operation_run(struct sim_operation *operation);

// operations.c, operations_files.c
const struct sim_opcode *sim_opcode_find(unsigned opcode); // NULL: not known
extern const struct sim_opcode sim_opcode_read, sim_opcode_write, sim_opcode_open;

// sendfile.c
extern const struct sim_opcode sim_opcode_install, sim_opcode_poll;
enum system_cached sim_file_cached(void *state, int file, uint64_t offset);
int64_t sim_sendfile(void *state, enum system_signal *signal, int fd, int file, uint64_t offset,
                     size_t size);

// write_now.c
bool sim_file_in_memory(void *state, int file);
int64_t sim_write_now(void *state, struct system_pipe *pipe, int fd, struct weir_slice slice,
                      int file, uint64_t offset, size_t size);

// cancel.c
int sim_cancel(struct sim *sim, const struct sim_operation *cancel);

// buffers.c
// The buffers that a receive may fill: the next one, or as many as a bundle of at most `most` bytes
// has room for in iovecs. Their number; 0: there is none.
enum { SIM_BUNDLE_MAX = 256 }; // PEEK_MAX_IMPORT
uint32_t sim_buffer_select(const struct sim_ring *ring, struct iovec *ret_iovec);
uint32_t sim_buffer_select_bundle(const struct sim_ring *ring, size_t most,
                                  struct iovec *ret_iovecs);
uint32_t sim_buffer_take(struct sim_ring *ring, uint32_t count); // completion flags of the first

// files.c
struct sim_node *sim_node_root(struct sim *sim);
struct sim_node *sim_node_add(struct sim *sim, struct sim_node *parent, const char *name,
                              uint32_t mode);
void sim_node_rename(struct sim_node *node, struct sim_node *parent, const char *name);
void sim_node_reserve(struct sim_node *node, size_t size);
void sim_node_resize(struct sim_node *node, size_t size);
void sim_node_touch(struct sim_node *node); // it was changed now
void sim_nodes_free(struct sim *sim);
static inline bool sim_node_is_linked(const struct sim_node *node)
{
    return node->parent || !*node->name;
}
// 0 or -errno; ends at a free name too.
int sim_path_walk(struct sim *sim, struct sim_path *path);
// A descriptor, by open(2)'s flags.
int sim_path_open(struct sim *sim, struct sim_path *path, uint64_t flags, uint64_t mode);
int sim_file_of_node(struct sim *sim, struct sim_node *node, uint64_t flags);
// An object for a regular file of the machine, or NULL: the descriptor is none.
struct sim_object *sim_machine_file(struct sim *sim, int fd);

// calls.c
int64_t sim_node_read(struct sim *sim, const struct sim_node *node, const struct iovec *iovec,
                      uint64_t offset);
int64_t sim_node_write(struct sim *sim, struct sim_node *node, const struct iovec *iovec,
                       uint64_t offset);

// system.c
extern const struct system sim_system;

#endif
