// Where a script is played: a world with an engine, a server in it, and its files, which are the
// machine's or the simulated kernel's.
#ifndef DIFFERENTIAL_STAGE_H
#define DIFFERENTIAL_STAGE_H

#include <core/engines/sim/sim.h>

#include "../contract/world.h"

// Bytes that grow.
struct text {
    char *data;
    size_t size, room;
};

void text_add(struct text *text, const char *data, size_t size);
void text_format(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_free(struct text *text);

struct stage {
    struct world *world;
    struct sim *sim;  // NULL: its files are the machine's
    char folder[128]; // that they are in, with a slash at the end
};

// A server that scripts are for.
struct served {
    const char *name;
    // Makes its files and what its streams share, and listens.
    void (*start)(struct stage *stage, struct weir_address *ret_address);
    // After its loops: frees that.
    void (*stop)(struct stage *stage);
};

extern const struct served served_files, served_echo, served_ftp;

// `seed`: of faults that no client may notice, where the kernel is simulated; 0: none.
void stage_open(struct stage *stage, const struct variant *variant, uint64_t seed);
// Ends the loops, then the server; nothing may be left of them.
void stage_close(struct stage *stage, const struct served *served);
// Waits until no stream is open any more: what clients began is done.
void stage_settle(struct stage *stage);
void stage_listen(struct stage *stage, const struct weir_protocol *protocol, void *context,
                  struct weir_address *ret_address);

// A file or, with a slash at the end, a directory; those on the way are made. All files have the
// same old time.
void stage_make(struct stage *stage, const char *path, const void *data, size_t size);
// Appends a line for everything below a directory, sorted: name, size and a sum over the bytes.
void stage_list(struct stage *stage, const char *path, struct text *ret_text);

#endif
